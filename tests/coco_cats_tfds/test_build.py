"""`coco-cats build`, and how TFDS finds the dataset and is told its choice."""

import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

import coco_cats_tfds
from coco_cats_tfds import CocoCatsConfig, CocoDataError
from coco_cats_tfds.cli import main
from coco_cats_tfds.coco_cats_dataset_builder import Builder
from coco_cats_tfds.plain_errors import show_data_errors_plainly

PETS = json.dumps({"name": "pets", "categories": ["cat", "dog"]})


def build(root, out, *more):
    return main(["build", "--manual_dir", str(root), "--data_dir", str(out), *more])


def count(out, config="cats"):
    return len(list(tfds.load(f"coco_cats/{config}", split="train", data_dir=out)))


def test_builds_what_was_chosen(make_coco, tmp_path, capsys):
    root, out = make_coco(), tmp_path / "out"
    assert build(root, out) == 0
    printed = capsys.readouterr().out
    assert "train: 2 images" in printed
    assert f"tfds.load('coco_cats/cats', data_dir='{out}')" in printed
    assert build(root, out, "--config", PETS, "--num_shards", "2") == 0
    assert (count(out), count(out, "pets")) == (2, 3)
    assert len(list(out.rglob("pets/*/*train*"))) == 2


def test_the_bytes_are_those_of_tfds_build(make_coco, tmp_path):
    root = make_coco()
    assert build(root, tmp_path / "ours") == 0
    Builder(data_dir=tmp_path / "tfds").download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root)
    )
    (ours,) = (tmp_path / "ours").rglob("1.0.0")
    (theirs,) = (tmp_path / "tfds").rglob("1.0.0")
    names = {path.name for path in ours.iterdir()}
    assert names == {path.name for path in theirs.iterdir()}
    for name in names - {"dataset_info.json"}:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_what_is_there_stays_unless_told_otherwise(make_coco, tmp_path, capsys):
    root, out = make_coco(), tmp_path / "out"
    assert build(root, out, "--max_examples_per_split") == 0
    assert build(root, out) == 2
    assert "build with --overwrite" in capsys.readouterr().err
    assert build(root, out, "--overwrite") == 0
    assert count(out) == 2
    assert build(root, out) == 0
    assert "is there, with this choice" in capsys.readouterr().out
    assert build(root, out, "--fail_if_exists") == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ('{"name": "x", "categories": ["kat"]}', "Unknown category 'kat'"),
        ('{"name": "x", "category": ["cat"]}', "'category'.*Did you mean 'categories'"),
        ('{"categories": ["cat"]}', "`name` must be letters"),
        ('{"name": "x"', "--config is no JSON object: .*Received: .\"name\": \"x\""),
        ("pets", "BuilderConfig pets not found"),
    ],
)  # fmt: skip
def test_faults_are_text_and_status_2(make_coco, tmp_path, capsys, config, fault):
    assert build(make_coco(), tmp_path / "out", "--config", config) == 2
    error = capsys.readouterr().err
    assert error.startswith("coco-cats: ")
    assert "Traceback" not in error
    with pytest.raises(ValueError, match=fault):
        raise ValueError(error)


def test_a_folder_of_that_name_is_in_nobodys_way(make_coco, tmp_path):
    """In a process of its own, without what only TFDS's command line needs.

    The second build is the one that `tfds build` takes for a path.
    """
    root = make_coco()
    program = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['apache_beam', 'mlcroissant'])\n"
        "from coco_cats_tfds.cli import main\n"
        "for more in ([], ['--config', sys.argv[2]]):\n"
        "    main(['build', '--manual_dir', sys.argv[1], '--data_dir', '.', *more])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, root, PETS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (count(tmp_path), count(tmp_path, "pets")) == (2, 3), done.stderr[-2000:]


@pytest.mark.parametrize("address", ["s3://bucket/x", "file:///tmp/x"])
def test_where_tfds_does_not_write(make_coco, capsys, address):
    assert build(make_coco(), address) == 2
    assert f"--data_dir {address}: TFDS does not write" in capsys.readouterr().err


def test_dry_run_and_download_only(make_coco, serve, tmp_path, monkeypatch, capsys):
    server, out = serve(make_coco()), tmp_path / "out"
    config = json.dumps({"name": "net", "base_url": server.url})
    net = ["build", "--data_dir", str(out), "--config", config]
    assert main([*net, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "train2017: 2 images\n  to be fetched: 2 images, about 0.00033" in printed
    assert "zips/" not in printed
    assert list(server.requests) == ["annotations/annotations_trainval2017.zip"]
    monkeypatch.setattr("coco_cats_tfds.build._TOO_MANY", 1)
    assert main([*net, "--download_only"]) == 0
    assert "from COCO's zip, " in capsys.readouterr().out
    assert sum(server.requests.values()) == 5
    assert main([*net, "--dry_run"]) == 0
    assert "to be fetched: 0 images" in capsys.readouterr().out
    assert not list(out.rglob("dataset_info.json"))
    assert build(server.root, out, "--dry_run") == 0
    assert "train2017: 2 images\nval2017: 2 images\n" in capsys.readouterr().out
    assert main(net) == 0
    assert sum(server.requests.values()) == 5
    assert count(out, "net") == 2


@pytest.mark.parametrize("kind", [dict, lambda fields: CocoCatsConfig(**fields)])
def test_a_choice_from_python(make_coco, tmp_path, kind):
    config = kind({"name": "pets", "categories": ["cat", "dog"]})
    builder = tfds.builder("coco_cats", config=config, data_dir=tmp_path)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=make_coco())
    )
    assert count(tmp_path, "pets") == 3


def test_an_unknown_field_from_python(tmp_path):
    with pytest.raises(CocoDataError, match="Unknown field 'crowds'.*'crowd'"):
        tfds.builder("coco_cats", config={"name": "x", "crowds": "ignore"})


def test_found_where_tfds_has_no_folder_of_it(tmp_path):
    """As with `pip install --target`: beside TFDS, whose own folder knows nothing."""
    site = tmp_path / "site"
    real = pathlib.Path(tfds.__file__).parent
    (site / "tensorflow_datasets" / "datasets").mkdir(parents=True)
    for folder in ("", "datasets"):
        for each in (real / folder).iterdir():
            if each.name not in ("datasets", "coco_cats"):
                (site / real.name / folder / each.name).symlink_to(each)
    program = (
        "import sys, tensorflow_datasets as tfds\n"
        "from tensorflow_datasets.core import registered\n"
        "try: tfds.builder_cls('coco_cats')\n"
        "except registered.DatasetNotFoundError: print('unknown')\n"
        "import coco_cats_tfds\n"
        "assert tfds.__file__.startswith(sys.argv[1])\n"
        "builder = tfds.builder('coco_cats', data_dir=sys.argv[1])\n"
        "print(builder.info.citation[:14], builder.info.description[:14])\n"
    )
    source = pathlib.Path(coco_cats_tfds.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program, site],
        env={"PYTHONPATH": f"{site}:{source}", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split("\n")[:2] == [
        "unknown",
        "@inproceedings Images of COCO",
    ], done.stderr[-2000:]


def test_description_and_citation_are_in_the_package(tmp_path):
    info = Builder(data_dir=tmp_path).info
    assert info.citation.startswith("@inproceedings{lin2014")
    assert info.description.startswith("Images of COCO that show")


@pytest.mark.parametrize(
    ("program", "is_plain"),
    [("/usr/bin/tfds", True), ("x/tensorflow_datasets/scripts/cli/main.py", True),
     ("train.py", False)],
)  # fmt: skip
def test_errors_of_the_data_in_tfds_build(monkeypatch, capsys, program, is_plain):
    seen = []
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(error[1]))
    show_data_errors_plainly()
    for error in (CocoDataError("Image 3 is gone."), KeyError("x")):
        sys.excepthook(type(error), error, None)
    assert len(seen) == 1 if is_plain else 2
    text = "tfds build: Image 3 is gone.\n" if is_plain else ""
    assert capsys.readouterr().err == text
