"""The command `coco-cats`."""

from coco_cats_tfds.cli import main


def test_sample_writes_the_layout_and_says_what_is_next(tmp_path, capsys):
    target = tmp_path / "sample"
    assert main(["sample", str(target), "--train", "5", "--validation", "5"]) == 0
    assert len(list((target / "train2017").glob("*.jpg"))) == 5
    assert f"tfds build coco_cats --manual_dir {target}" in capsys.readouterr().out


def test_sample_refuses_a_folder_in_use(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["sample", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
