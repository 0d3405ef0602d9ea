"""From TFDS datasets to batches of tiles, and to whole images.

`source.py` gives them, from one `dataset.py` or several; `records.py` reads records,
and is all that knows of TFDS; `order.py` puts them in the order of training and
`pattern.py` the datasets, and `stream.py` has both; `tiles.py` makes a tile of each:
on the host with `decoding.py`, `scale.py`, `pixels.py` and `cut.py`, then in batches on
the device with `warp.py` and `augment.py`; `border.py` weighs its pixels. `labels.py`
says what a mask's values mean, `share.py` which part of a batch a machine reads.
"""
