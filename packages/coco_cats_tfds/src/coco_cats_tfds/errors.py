"""The one error that bad COCO data raises."""


class CocoDataError(ValueError):
    """COCO data that cannot be used: the text names file, record, value and cure."""
