"""Which data, and how it reaches the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from unet_train.options.checks import (
    require_from,
    require_positive,
    require_share,
    require_sizes,
)

FOREGROUND = ("foreground",)
"""The classes of data that names none."""

# Shares of datasets are counted in these.
_PARTS = 10_000
# The labels of a mask are 8 bits: 0 is the background, the last two have their meaning.
_MOST_CLASSES = 253


@dataclasses.dataclass(frozen=True, kw_only=True)
class FurtherData:
    """A dataset beside the first; what is None is as for that one.

    ```python
    from unet_train.options import FurtherData

    pets = FurtherData(name="coco_cats/pets", share=0.25)
    # SegmentationData(data_dir="OUT", also=[pets])
    ```

    Attributes:
      name: TFDS name of the dataset.
      share: Share of the training tiles that come from it, to four decimals.
      data_dir: Folder that TFDS built it in.
      train_split: TFDS split to train on.
      eval_split: TFDS split to validate on.
      image_feature: Name of the dataset's feature that holds the image.
      mask_feature: Name of the feature that holds the mask.
      instance_feature: Name of the feature that numbers instances; empty for none.
      foreground: Values of the mask that are to be found.
      labels: The same of several classes, by their names; those of the first dataset
        that are not among them do not occur.
      background: Values of the mask that are not.
      ignored: Values of the mask that count in no loss and no score.
    """

    name: str
    share: float
    data_dir: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    image_feature: str | None = None
    mask_feature: str | None = None
    instance_feature: str | None = None
    foreground: list[int] | None = None
    labels: dict[str, list[int]] | None = None
    background: list[int] | None = None
    ignored: list[int] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.parts < _PARTS:
            raise ValueError(
                f"`share` of the further dataset {self.name!r} must lie between 0 and"
                f" 1, and counts to four decimals. Received: {self.share}"
            )

    @classmethod
    def of(cls, entry: FurtherData | Mapping[str, Any]) -> FurtherData:
        """An entry of `also`, from its keys if it is not one already."""
        if isinstance(entry, cls):
            return entry
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(entry, Mapping) or not {"name", "share"} <= set(entry):
            raise ValueError(
                f"A dataset in `also` needs a `name` and a `share`. Received: {entry}"
            )
        if strange := sorted(set(entry) - set(names)):
            raise ValueError(
                f"The dataset {entry['name']!r} in `also` has the options {strange}."
                f" It can have {names}."
            )
        return cls(**entry)

    @property
    def parts(self) -> int:
        """Its share in ten-thousandths."""
        return round(self.share * _PARTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data, and how it reaches the network.

    ```python
    from unet_train.options import DataOptions

    options = DataOptions(data_dir="OUT", tile_size=92, scale_jitter=0.3)
    SegmentationData(**vars(options))
    ```

    Attributes:
      name: TFDS name of the dataset, such as coco_cats or coco_cats/pets.
      data_dir: Folder that TFDS built it in; TFDS's own default if none is given.
      also: Further datasets that are trained on, validated on and held out from beside
        it, each with a name and its share of the tiles; an epoch stays a pass over the
        first.
      train_split: TFDS split to train on.
      holdout: Share of its images, the last of them, that are not trained on: the
        threshold is chosen on them.
      eval_split: TFDS split to validate on.
      image_feature: Name of the dataset's feature that holds the image.
      mask_feature: Name of the feature that holds the mask.
      instance_feature: Name of one that holds a PNG with the number of each pixel's
        instance, 0 for none, such as `instance_map` of coco_cats; for `border_weight`.
        Empty: objects are the connected regions of the mask.
      foreground: Values of the mask that are to be found.
      labels: In place of `foreground`, classes by name and the values of the mask that
        stand for each, such as {cat: [1], dog: [2, 3]}; the network tells one from the
        other. None for those that the dataset names, or else one class.
      background: Values of the mask that are not.
      ignored: Values of the mask that count in no loss and no score.
      image_size: Resize images so that their longer side has this many pixels;
        predictions are resized back. None keeps the resolution of the images.
      predict_size: The same for validation and prediction, where it is another. Scaled
        and cropped at random, objects look larger than they do in whole photos; 1.3 or
        1.4 times `image_size` makes up for it (Touvron et al. 2019, "Fixing the
        train-test resolution discrepancy"). Of several sizes the probabilities are
        averaged: each finds what the other is too coarse or too close for. None for
        `image_size`.
      tile_size: Side in pixels of the square tile that the network sees in training.
      batch_size: Tiles a step, over all devices together.
      shuffle_buffer: Images that are shuffled at once; if there are more, each run of
        so many is shuffled for itself. Held in memory as undecoded records only where
        files cannot be read at any place, such as on gs://.
      mirror: Mirror half of the tiles left to right.
      flip: Turn half of the tiles upside down.
      scale_jitter: Scale each image by a random factor from 1/(1+x) to 1+x.
      aspect_jitter: Stretch its width over its height by a random factor of that range;
        the area stays.
      foreground_share: Share of the tiles that are cut so that they show a pixel drawn
        from all the foreground of their image, if it has any.
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
    also: list[FurtherData] = dataclasses.field(default_factory=list)
    train_split: str = "train"
    holdout: float = 0.05
    eval_split: str = "validation"
    image_feature: str = "image"
    mask_feature: str = "segmentation_mask"
    instance_feature: str = ""
    foreground: list[int] = dataclasses.field(default_factory=lambda: [1])
    labels: dict[str, list[int]] | None = None
    background: list[int] = dataclasses.field(default_factory=lambda: [0])
    ignored: list[int] = dataclasses.field(default_factory=lambda: [255])
    image_size: int | None = None
    predict_size: int | list[int] | None = None
    tile_size: int = 572
    batch_size: int = 1
    shuffle_buffer: int = 8192
    mirror: bool = True
    flip: bool = False
    scale_jitter: float = 0.0
    aspect_jitter: float = 0.0
    foreground_share: float = 0.0
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
        if self.predict_size is not None:
            require_sizes("predict_size", self.predict_size)
        if self.predict_size and not self.image_size:
            raise ValueError(
                f"`predict_size` {self.predict_size} is for networks that learn from"
                " scaled photos. Set `image_size` too, or leave both out."
            )
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
        self._check_values()
        if self.instance_feature and not self.border_weight:
            raise ValueError(
                f"`instance_feature` {self.instance_feature!r} is what `border_weight`"
                " tells objects apart by, and that is 0. Set it too (the paper has"
                " 10), or leave both out."
            )
        also = [FurtherData.of(each) for each in self.also]
        object.__setattr__(self, "also", also)
        if self.shares[0] <= 0:
            raise ValueError(
                "The shares of the datasets in `also` must sum to less than 1, or"
                f" nothing is left for {self.name!r}. Received:"
                f" {[each.share for each in also]}"
            )
        self.each()  # Refuses what does not go together.

    def _check_values(self) -> None:
        if self.labels is not None:
            _check_names(self.labels)
        found = [value for values in self.classes.values() for value in values]
        values = [*found, *self.background, *self.ignored]
        name = "foreground" if self.labels is None else "labels"
        if (name == "foreground" and not found) or len(set(values)) != len(values):
            raise ValueError(
                f"`{name}`, `background` and `ignored` must name different values"
                f" of the mask, and `foreground` at least one. Received:"
                f" {getattr(self, name)}, {self.background}, {self.ignored}"
            )
        if min(values, default=0) < 0 or max(values, default=0) > 255:
            raise ValueError(f"Values of a mask lie in 0..255. Received: {values}")

    @property
    def classes(self) -> dict[str, list[int]]:
        """The values of the mask by class, in the order of their labels from 1."""
        return self.labels or {FOREGROUND[0]: self.foreground}

    @property
    def class_names(self) -> tuple[str, ...]:
        """What is told apart, without the background."""
        return tuple(self.classes)

    @property
    def shares(self) -> tuple[int, ...]:
        """Of each dataset, the first one's first, in whole numbers."""
        further = [each.parts for each in self.also]
        return _PARTS - sum(further), *further

    @property
    def prediction_size(self) -> int | list[int] | None:
        """What the longer side of a photo is scaled to for a prediction, or None."""
        return self.predict_size or self.image_size

    def alone(self, name: str | None) -> DataOptions:
        """To score on: the dataset of this name alone, as it is here or as the first.

        All of them if none is named. Where nothing is learnt, no instances are read.
        """
        also = [dataclasses.replace(each, instance_feature="") for each in self.also]
        plain = dataclasses.replace(self, also=also, instance_feature="")
        if name is None:
            return plain
        named = [each for each in plain.each() if each.name == name]
        return named[0] if named else dataclasses.replace(plain, name=name, also=[])

    def each(self) -> list[DataOptions]:
        """The options of each dataset by itself, the first one's first."""
        if not self.also:
            return [self]
        given = [
            {
                key: value
                for key, value in dataclasses.asdict(each).items()
                if key != "share" and value is not None
            }
            for each in self.also
        ]
        for own in given:
            if "labels" in own:
                own["labels"] = self._in_order(own["name"], own["labels"])
            elif "foreground" in own and self.labels is not None:
                raise ValueError(
                    f"The dataset {own['name']!r} in `also` has a `foreground`, and the"
                    f" first one `labels` {list(self.labels)}. Give it `labels` too."
                )
        return [dataclasses.replace(self, also=[], **own) for own in ({}, *given)]

    def _in_order(self, name: str, own: dict[str, list[int]]) -> dict[str, list[int]]:
        """The labels of a further dataset, in the order of the first one's."""
        if self.labels is None:
            return own  # The first dataset may name them.
        if strange := sorted(set(own) - set(self.classes)):
            raise ValueError(
                f"The dataset {name!r} in `also` has the classes {strange}, and the"
                f" first one {list(self.classes)}. Give them the same names, or leave"
                " out what is not to be found, among the values of `background`."
            )
        return {each: own.get(each, []) for each in self.classes}


def _check_names(labels: dict[str, list[int]]) -> None:
    if not 1 <= len(labels) <= _MOST_CLASSES:
        raise ValueError(
            f"`labels` must name 1 to {_MOST_CLASSES} classes: a mask has 8 bits, and"
            f" 0, 254 and 255 have their own meaning. Received: {len(labels)}"
        )
    bad = [name for name in labels if name != name.strip() or not name.isprintable()]
    same = len({name.casefold() for name in labels}) < len(labels)
    if same or bad or {"", "background"} & {name.casefold() for name in labels}:
        raise ValueError(
            "The names in `labels` must be printable and differ, without spaces around"
            f' them, and none be "background", whose values are `background`. Received:'
            f" {list(labels)}"
        )
