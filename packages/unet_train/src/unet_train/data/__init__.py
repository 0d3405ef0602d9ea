"""From a TFDS dataset to batches of tiles, and to whole images.

`source.py` gives them; `records.py` reads records, and is all that knows of TFDS;
`order.py` puts them in the order of training; `tiles.py` makes a tile of each, with
`cut.py`, `augment.py`, `border.py` and `decoding.py`; `labels.py` says what a mask's
values mean; `share.py` which part of a batch a machine reads.
"""
