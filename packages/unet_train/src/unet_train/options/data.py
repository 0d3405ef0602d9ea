"""Which data, and how it reaches the network."""

from __future__ import annotations

import dataclasses

from unet_train.options.checks import require_from, require_positive, require_share


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data, and how it reaches the network.

    Attributes:
      name: TFDS name of the dataset, such as coco_cats or coco_cats/pets.
      data_dir: Folder that TFDS built it in; TFDS's own default if none is given.
      train_split: TFDS split to train on.
      holdout: Share of its images, the last of them, that are not trained on: the
        threshold is chosen on them.
      eval_split: TFDS split to validate on.
      image_feature: Name of the dataset's feature that holds the image.
      mask_feature: Name of the feature that holds the mask.
      foreground: Values of the mask that are to be found.
      background: Values of the mask that are not.
      ignored: Values of the mask that count in no loss and no score.
      image_size: Resize images so that their longer side has this many pixels;
        predictions are resized back. None keeps the resolution of the images.
      tile_size: Side in pixels of the square tile that the network sees in training.
      batch_size: Tiles a step, over all devices together.
      shuffle_buffer: Undecoded records held in memory, twice while they are shuffled.
        If there are more images, each run of so many is shuffled for itself.
      foreground_share: Share of the tiles that are cut so that they show a pixel drawn
        from all the foreground of their image, if it has any.
      mirror: Mirror half of the tiles left to right.
      flip: Turn half of the tiles upside down.
      scale_jitter: Scale each image by a random factor from 1/(1+x) to 1+x.
      aspect_jitter: Stretch its width over its height by a random factor of that range;
        the area stays.
      rotation: Rotate by up to this many degrees.
      elastic: Bend the image: standard deviation in pixels of the displacements on a
        grid of 3 x 3, with bicubic interpolation between them. The paper has 10.
      color_jitter: Vary brightness, contrast and saturation by up to this share.
      blur: Blur by a Gaussian of up to this standard deviation in pixels.
      cutout: Grey out, and ignore, a rectangle with sides of up to this share of the
        tile's.
      copy_paste: Share of the tiles that get the foreground of another image pasted in.
      border_weight: w0 of the paper's weight map, which makes the background between
        two objects count more; it has 10. 0 leaves the map out.
      border_sigma: How far from the borders that reaches, in pixels.
    """

    name: str = "coco_cats"
    data_dir: str | None = None
    train_split: str = "train"
    holdout: float = 0.05
    eval_split: str = "validation"
    image_feature: str = "image"
    mask_feature: str = "segmentation_mask"
    foreground: list[int] = dataclasses.field(default_factory=lambda: [1])
    background: list[int] = dataclasses.field(default_factory=lambda: [0])
    ignored: list[int] = dataclasses.field(default_factory=lambda: [255])
    image_size: int | None = None
    tile_size: int = 572
    batch_size: int = 1
    shuffle_buffer: int = 8192
    foreground_share: float = 0.0
    mirror: bool = True
    flip: bool = False
    scale_jitter: float = 0.0
    aspect_jitter: float = 0.0
    rotation: float = 0.0
    elastic: float = 0.0
    color_jitter: float = 0.0
    blur: float = 0.0
    cutout: float = 0.0
    copy_paste: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0

    def __post_init__(self) -> None:
        require_positive(self, "tile_size", "batch_size", "shuffle_buffer")
        require_positive(self, "image_size", "border_sigma")
        require_from(self, 0, "scale_jitter", "aspect_jitter", "elastic")
        require_from(self, 0, "blur", "border_weight")
        require_share(self, "holdout", "color_jitter", "cutout")
        for name in ("copy_paste", "foreground_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"`{name}` must lie between 0 and 1. Received:"
                    f" {getattr(self, name)}"
                )
        if not 0 <= self.rotation <= 180:
            raise ValueError(
                f"`rotation` must lie between 0 and 180. Received: {self.rotation}"
            )
        values = [*self.foreground, *self.background, *self.ignored]
        if not self.foreground or len(set(values)) != len(values):
            raise ValueError(
                "`foreground`, `background` and `ignored` must name different values"
                " of the mask, and `foreground` at least one. Received:"
                f" {self.foreground}, {self.background}, {self.ignored}"
            )
        if min(values) < 0 or max(values) > 255:
            raise ValueError(f"Values of a mask lie in 0..255. Received: {values}")
