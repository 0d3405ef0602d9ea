"""What docs/dataset.md and the package's README promise is what there is."""

import json
import pathlib
import re

import pytest

from coco_cats_tfds.coco_cats_dataset_builder import CocoCatsConfig

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "dataset.md").read_text()
README = (ROOT / "packages" / "coco_cats_tfds" / "README.md").read_text()
EXAMPLES = sorted(set(re.findall(r'\{"name": .*?\}(?=[`\'])', GUIDE + README)))


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_configurations_are_accepted(example):
    assert CocoCatsConfig(**json.loads(example)).name


def test_every_field_is_documented_with_its_default_and_an_example():
    fields = set(CocoCatsConfig.__dataclass_fields__) - {
        *("name", "version", "release_notes", "supported_versions", "description"),
        "tags",
    }
    used = set().union(*(json.loads(example) for example in EXAMPLES)) - {"name"}
    assert used == fields
    for field in fields:
        assert f"| `{field}` |" in GUIDE
        assert f"| `{field}` |" in README
        assert f"**`{field}`**" in GUIDE


def test_the_options_of_the_runners_are_known_to_beam():
    beam = pytest.importorskip("apache_beam")
    rows = re.findall(r"(?:`|options=\")(runner=\w+,[^`\"]+)[`\"]", GUIDE)
    assert len(rows) == 4
    for row in rows:
        flags = [f"--{option}" for option in row.split(",")]
        options = beam.options.pipeline_options.PipelineOptions(flags)
        known = options.get_all_options(drop_default=True)
        for option in row.split(","):
            name = option.split("=")[0]
            assert any(each.startswith(name) for each in known), option
