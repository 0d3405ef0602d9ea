"""A trained network on photos: read, predicted, drawn, written in COCO's formats."""
