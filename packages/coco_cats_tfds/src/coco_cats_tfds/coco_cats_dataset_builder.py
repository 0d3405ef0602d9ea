"""The TFDS builder `coco_cats`: COCO images with a binary mask.

```sh
tfds build coco_cats --data_dir OUT                      # fetches what it needs
tfds build coco_cats --data_dir OUT --manual_dir COCO    # takes it from a folder
tfds build coco_cats --data_dir OUT \
    --config '{"name": "pets", "categories": ["cat", "dog"], "negatives": 0.5}'
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import tensorflow_datasets as tfds

from coco_cats_tfds.annotations import ImageRecord, find_categories, find_labels
from coco_cats_tfds.categories import CATEGORIES
from coco_cats_tfds.choice import BACKGROUND_NAME, Choice
from coco_cats_tfds.counts import Counts
from coco_cats_tfds.download import COCO_URL, CocoDownload
from coco_cats_tfds.errors import CocoDataError
from coco_cats_tfds.examples import make_examples
from coco_cats_tfds.inputs import CocoFolder, CocoInputs
from coco_cats_tfds.plain_errors import show_data_errors_plainly
from coco_cats_tfds.selection import Selection, select
from coco_cats_tfds.sources import Source
from coco_cats_tfds.writer import DeterministicExampleWriter

SPLITS = {"train": "train2017", "validation": "val2017"}
"""The splits of the dataset, and the name that COCO 2017 gives to each."""

show_data_errors_plainly()

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclasses.dataclass(eq=False, kw_only=True)
class CocoCatsConfig(Choice, tfds.core.BuilderConfig):
    """What to build and how. As JSON: `--config '{"name": "pets", "crowd": "ignore"}'`.

    Attributes:
      name: Of the configuration; the folder under which the dataset is stored.
      base_url: Where COCO is fetched from when there is no `manual_dir`.
      workers: Threads that read and draw; 0 takes one a core.
      beam: Build with Apache Beam, on one machine or many.

    Example:
      ```python
      from coco_cats_tfds import CocoCatsConfig

      pets = CocoCatsConfig(name="pets", categories={"pet": ["cat", "dog"]})
      print(pets.class_names, pets.as_json())
      ```
    """

    base_url: str = COCO_URL
    workers: int = 0
    beam: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
          CocoDataError: A field has an impossible value.
        """
        super().__post_init__()
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise CocoDataError(
                "`name` must be letters, digits, _, - and ., since it names a folder."
                f" Received: {self.name!r}"
            )
        if not str(self.base_url).startswith(("http://", "https://")):
            raise CocoDataError(
                "`base_url` must begin with http:// or https://. Received:"
                f" {self.base_url!r}. For a folder use --manual_dir."
            )
        if type(self.workers) is not int or self.workers < 0:
            raise CocoDataError(
                "`workers` must be a whole number of threads, or 0 for one a core."
                f" Received: {self.workers!r}"
            )
        if type(self.beam) is not bool:
            raise CocoDataError(
                f"`beam` must be true or false. Received: {self.beam!r}"
            )

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> CocoCatsConfig:
        """A configuration from its fields by name, e.g. those of a JSON object.

        Raises:
          CocoDataError: A field is unknown or has an impossible value, or `name` is
            missing.
        """
        known = [each.name for each in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                raise CocoDataError(
                    f"Unknown field {name!r} of the configuration."
                    + (f" Did you mean {near[0]!r}?" if near else f" Known: {known}.")
                )
        return cls(**{"name": "", **fields})


_SIDES = {"train2017": "training", "val2017": "validation"}
_OTHER_SHARE = "Give another `validation`, which divides few photos unevenly. "


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds `coco_cats` from COCO's annotations and images."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}
    BUILDER_CONFIGS = [
        CocoCatsConfig(name="cats", description="Cats: every image that shows one.")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Optional: without --manual_dir, the annotations and the images that are needed are
    fetched. A folder given with --manual_dir must have COCO's layout: train2017/,
    val2017/ and annotations/instances_{train,val}2017.json, or in the place of any of
    these COCO's zip: train2017.zip, val2017.zip, annotations_trainval2017.zip. The
    splits may be called train, and val, valid or validation, too.
    `coco-cats sample DIR` writes a small one.
    """

    def __init__(
        self,
        *,
        config: str | CocoCatsConfig | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Finds what was built before.

        Args:
          config: The name of a configuration, one of your own, or its fields by name.
          **options: As for every TFDS builder.

        Raises:
          CocoDataError: A field is unknown or has an impossible value.

        Example:
          ```python
          import tensorflow_datasets as tfds
          from coco_cats_tfds import Builder

          builder = Builder(config={"name": "few", "limit": 2}, data_dir="OUT")
          builder.download_and_prepare(
              download_config=tfds.download.DownloadConfig(manual_dir="COCO")
          )
          assert builder.info.splits["train"].num_examples == 2
          ```
        """
        if isinstance(config, Mapping):
            config = CocoCatsConfig.of_fields(config)
        super().__init__(config=config, **options)
        self._manual_dir: Any = None
        self._download_config = tfds.download.DownloadConfig()
        self._download: CocoDownload | None = None
        self._counts: dict[str, Counts] = {}
        self._licenses: dict[str, Any] = {}

    @classmethod
    def _get_pkg_dir_path(cls) -> Any:
        """Where description, citation and tags lie: here, wherever TFDS found us."""
        return tfds.core.Path(__file__).parent

    def _check_choice(self, *, limit_counts: bool) -> None:
        if not self.is_prepared():
            return
        wanted, built = self.builder_config.choice, self.info.metadata.get("choice")
        limit = built.get("limit", 0) if isinstance(built, dict) else 0
        if not limit_counts and limit != wanted.limit:
            wanted = dataclasses.replace(wanted, limit=limit)
            warnings.warn(
                f"{self.data_path} is a trial: it holds {limit} images of a split at"
                " most. Build with --overwrite to have them all.",
                stacklevel=3,
            )
        if not wanted.is_recorded_as(built):
            raise CocoDataError(
                f"{self.data_path} was built with {built}, not with"
                f" {wanted.as_json()}. Give this configuration another name, or build"
                " with --overwrite."
            )

    def _info(self) -> tfds.core.DatasetInfo:
        """The data contract: stock TFDS features only."""
        config = self.builder_config
        info = self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(None, None, 3),
                        encoding_format="jpeg",
                        doc="The original JPEG.",
                    ),
                    "segmentation_mask": _mask_feature(config.class_names),
                    "image/id": tfds.features.Scalar(np.int64, doc="COCO image id."),
                    "image/filename": tfds.features.Text(doc="COCO file name."),
                    **(_attribution_features() if config.attribution else {}),
                    **(_instance_features() if config.instances else {}),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
            metadata=tfds.core.MetadataDict(choice=config.as_json()),
            homepage="https://cocodataset.org",
        )
        if config.class_names:
            labels = [f"{label} {name}" for label, name in enumerate(config.classes, 1)]
            info.as_proto.description += (
                f"\nHere each class has a label of its own: {', '.join(labels)}."
            )
        return info

    def download_and_prepare(
        self,
        *,
        download_config: tfds.download.DownloadConfig | None = None,
        **options: Any,
    ) -> None:
        """Builds the dataset unless it is there; arguments as in TFDS.

        Raises:
          CocoDataError: The input cannot be used (nothing is left that looks finished),
            or the configuration's name stands for another choice already.
        """
        download_config = download_config or tfds.download.DownloadConfig()
        self._use_folder(download_config.manual_dir)
        if download_config.max_examples_per_split is not None:
            self._limit_to(download_config.max_examples_per_split)
        if download_config.force_checksums_validation and not self._manual_dir:
            raise CocoDataError(
                "--force_checksums_validation cannot be had: COCO publishes no"
                " checksums of its images. Build without it: the annotations are"
                " compared with theirs in any case, and every image is decoded and"
                " compared with its record. Or build from COCO's zips with"
                " --manual_dir."
            )
        # TFDS has no copy of its own, and offline it takes long to find that out.
        download_config = dataclasses.replace(
            download_config, max_examples_per_split=None, try_download_gcs=False
        )
        self._download_config = download_config
        if not download_config.download_mode.overwrite_dataset:
            self._check_choice(limit_counts=True)
        super().download_and_prepare(download_config=download_config, **options)

    def _use_folder(self, manual_dir: Any) -> None:
        self._manual_dir = manual_dir and tfds.core.Path(manual_dir).expanduser()
        if self._manual_dir and not self._manual_dir.is_dir():
            raise CocoDataError(
                f"--manual_dir {manual_dir} does not exist or is no folder. Without"
                " --manual_dir, COCO is fetched from the net."
            )

    def plan(
        self, *, manual_dir: Any = None, download_dir: Any = None
    ) -> Iterator[tuple[str, CocoInputs, Selection]]:
        """What a build would take, without building: COCO's split, inputs, images.

        Args:
          manual_dir: A folder in COCO's layout; else the annotations are fetched.
          download_dir: Keeps what is fetched; default: `<data_dir>/downloads`.

        Raises:
          CocoDataError: The input cannot be used.
        """
        self._use_folder(manual_dir)
        coco = self._inputs(download_dir or self.data_dir_root / "downloads")
        for coco_split in SPLITS.values():
            yield coco_split, coco, self._select(coco, coco_split)

    def _limit_to(self, limit: int) -> None:
        """Makes TFDS's option a part of the choice, so that it is recorded with it."""
        if not limit:
            raise CocoDataError(
                "--max_examples_per_split 0 would leave a dataset without images."
                " Give 1 or more."
            )
        limit = min(limit, self.builder_config.limit or limit)
        self._builder_config = dataclasses.replace(self.builder_config, limit=limit)

    def as_dataset(self, *args: Any, **options: Any) -> Any:
        """Reads the dataset; arguments as in TFDS.

        Raises:
          CocoDataError: The configuration's name stands for another choice.
        """
        self._check_choice(limit_counts=False)
        return super().as_dataset(*args, **options)

    def as_data_source(self, *args: Any, **options: Any) -> Any:
        """Reads the dataset at random; arguments as in TFDS, errors as above."""
        self._check_choice(limit_counts=False)
        return super().as_data_source(*args, **options)

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Any]:
        """One generator (or Beam transform) a split, after all inputs were found."""
        with contextlib.suppress(AssertionError):
            # TFDS's default, `<download_dir>/manual`, may be that of other datasets.
            if not self._manual_dir and CocoFolder.is_at(dl_manager.manual_dir):
                self._manual_dir = dl_manager.manual_dir
        coco = self._inputs(dl_manager.download_dir)
        splits = {}
        for split, coco_split in SPLITS.items():
            selection = self._select(coco, coco_split)
            images = [record.image for record in selection.records]
            self._counts[split] = selection.omitted
            self._licenses[split] = msgspec.to_builtins(selection.licenses)
            splits[split] = self._generate_examples(
                split, selection.records, coco.source(coco_split, images)
            )
        return splits

    def _select(self, coco: CocoInputs, coco_split: str) -> Selection:
        index = coco.index(coco_split)
        selection = select(index, self.builder_config.choice)
        if not any(record.annotations for record in selection.records):
            share, side = self.builder_config.validation, _SIDES[coco_split]
            where = f"image for {side} in {index.origin} (`validation` {share})"
            raise CocoDataError(
                f"No {where if share else f'image in {index.origin}'} shows any of"
                f" {list(self.builder_config.categories)} as configured, and TFDS"
                f" has no empty splits. {_OTHER_SHARE if share else ''}Choose other"
                " categories, or add images. Left out:"
                f" {dict(selection.omitted.left_out)}."
            )
        return selection

    def _inputs(self, download_dir: Any) -> CocoInputs:
        config = self.builder_config
        if self._manual_dir:
            return CocoFolder(self._manual_dir, validation=config.validation)
        if config.validation:
            raise CocoDataError(
                f"`validation` {config.validation} divides a folder of photos, and COCO"
                " has a split of its own to validate on. Leave it out, or give"
                " --manual_dir."
            )
        find_labels(config.classes, CATEGORIES, origin="COCO")
        find_categories(config.negatives_like, CATEGORIES, origin="COCO")
        self._download = CocoDownload(
            download_dir,
            config.base_url,
            omit_absent=config.on_invalid == "omit",
            force=self._download_config.download_mode.force_download,
            verify_ssl=self._download_config.verify_ssl,
        )
        return self._download

    def _generate_examples(
        self, split: str, records: Sequence[ImageRecord], source: Source
    ) -> Any:
        """Yields image id and example for every record."""
        if self.builder_config.beam:
            from coco_cats_tfds import beam_pipeline

            return beam_pipeline.generate_examples(
                records,
                source,
                self.builder_config.choice,
                folder=self._beam_folder(split),
            )
        return self._generate_on_threads(split, records, source)

    def _generate_on_threads(
        self, split: str, records: Sequence[ImageRecord], source: Source
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        for outcome in make_examples(
            records, source, config.choice, workers=config.workers
        ):
            self._counts[split] += outcome.counts
            if outcome.example is not None:
                yield outcome.example["image/id"], outcome.example
        self._counts[split].check_something_is_left()

    def _beam_folder(self, split: str) -> Any:
        return self.data_path / f"beam-{split}"

    def _example_writer(self) -> DeterministicExampleWriter:
        return DeterministicExampleWriter(self.info.file_format)

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, **options: Any
    ) -> None:
        """Adds what was chosen and counted to the info, before TFDS writes it."""
        super()._download_and_prepare(dl_manager, **options)
        if self._download:  # TFDS sums these up as the dataset's `download_size`.
            dl_manager._recorded_url_infos.update(self._download.cache.used)
        if self.builder_config.beam:
            from coco_cats_tfds import beam_pipeline

            for split in self._counts:
                folder = self._beam_folder(split)
                self._counts[split] += beam_pipeline.read_counts(folder)
                folder.rmtree()
        self.info.metadata["choice"] = self.builder_config.as_json()
        self.info.metadata["counts"] = {
            split: counts.as_json() for split, counts in self._counts.items()
        }
        if self.builder_config.attribution:
            self.info.metadata["licenses"] = self._licenses

    def _post_download_and_prepare_hook(self) -> None:
        """Says what was built and what was left out."""
        for split, counts in self._counts.items():
            print(counts.report(split))


def _mask_feature(class_names: Sequence[str]) -> tfds.features.Image:
    """The mask as a stock feature, which knows the classes' names if there are any."""
    if not class_names:
        return tfds.features.Image(
            shape=(None, None, 1),
            encoding_format="png",
            use_colormap=True,
            doc="0 background, 1 foreground, 255 ignored.",
        )
    feature = tfds.features.LabeledImage(
        labels=[BACKGROUND_NAME, *class_names],
        shape=(None, None, 1),
        encoding_format="png",
        doc="0 background, labels from 1 by `names`, 255 ignored.",
    )
    # TFDS refuses other names on disk, which may be about to be overwritten. Whether
    # they are those of this choice is for `_check_choice` to tell.
    feature.load_metadata = _keep_names
    return feature


def _attribution_features() -> dict[str, Any]:
    return {
        "image/license": tfds.features.Scalar(
            np.int64, doc="Number of the licence, by `licenses` of the info; 0 if none."
        ),
        "image/flickr_url": tfds.features.Text(doc="Address at Flickr, or nothing."),
    }


def _instance_features() -> dict[str, Any]:
    return {
        "instance_map": tfds.features.Image(
            shape=(None, None, 1),
            dtype=np.uint16,
            encoding_format="png",
            doc="Number of the single instance, from 1 in each image; 0 where none is.",
        )
    }


def _keep_names(*_: Any, **__: Any) -> None:
    pass
