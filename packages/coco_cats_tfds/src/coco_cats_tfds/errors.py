"""The one error that bad COCO data raises."""


class CocoDataError(ValueError):
    """COCO data that cannot be used: the text names file, record, value and cure.

    Example:
      ```python
      from coco_cats_tfds import CocoCatsConfig, CocoDataError

      try:
          CocoCatsConfig(name="pets", categories=[])
      except CocoDataError as error:
          print(error)
      ```
    """
