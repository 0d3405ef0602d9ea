"""The notebook in examples/ runs from install to overlay, on the embedded sample."""

import base64
import io
import pathlib
import zipfile

import nbclient
import nbformat
import numpy as np
import PIL.Image
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "own_photos.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The folder it worked in, and the notebook with its outputs."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (place,) = [
        index
        for index, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    ]
    fewer = nbformat.v4.new_code_cell("STEPS = 3", id="fewer-steps")
    notebook.cells.insert(place + 1, fewer)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return folder / "cats", {cell.id: cell for cell in notebook.cells}


def pictures(cell):
    """What a cell displayed as an image."""
    return [
        PIL.Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
        for output in cell.outputs
        if output.output_type in ("display_data", "execute_result")
        and "image/png" in output.data
    ]


def printed(cell):
    return "".join(each.text for each in cell.outputs if each.output_type == "stream")


def test_it_shows_the_data_and_what_was_found(executed):
    work, cells = executed
    (sheet,) = pictures(cells["look"])
    assert min(sheet.size) > 256

    photos = sorted((work / "coco" / "val2017").glob("*.jpg"))
    shown = pictures(cells["overlays"])
    assert [each.size for each in shown] == [
        PIL.Image.open(photo).size for photo in photos[:6]
    ]
    for each, photo in zip(shown, photos, strict=False):
        overlay = work / "found" / f"{photo.stem}_overlay.png"
        np.testing.assert_array_equal(each, PIL.Image.open(overlay))

    (last,) = pictures(cells["python"])
    np.testing.assert_array_equal(last, shown[0])


def test_it_leaves_masks_scores_and_a_network(executed):
    work, cells = executed
    photos = sorted((work / "coco" / "val2017").glob("*.jpg"))
    assert len(photos) == 16
    for photo in photos:
        mask = PIL.Image.open(work / "found" / f"{photo.stem}_mask.png")
        assert mask.size == PIL.Image.open(photo).size
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert "3 steps" in printed(cells["train"])
    assert len(printed(cells["train"]).splitlines()) < 20  # No redrawn progress bar.
    assert "iou" in printed(cells["score"])
    names = zipfile.ZipFile(work / "network.zip").namelist()
    assert {"model.keras", "config.yaml", "metrics.json"} <= set(names)


def test_it_installs_nothing_where_the_packages_are(executed):
    _, cells = executed
    assert cells["install"].outputs == []


def test_it_has_no_outputs_and_opens_everywhere():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_its_options_are_those_of_the_sample():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [each for each in notebook.cells if each.id == "config"]
    options = yaml.safe_load(cell.source.split("\n", 1)[1])
    expected = yaml.safe_load((ROOT / "configs" / "sample.yaml").read_text())
    (first,) = [each for each in notebook.cells if "STEPS =" in each.source]
    # max_steps is STEPS, at the top of the notebook.
    assert f"STEPS = {expected['trainer'].pop('max_steps')} " in first.source
    expected["data"]["name"] = "coco_cats/mine"
    assert options == expected
