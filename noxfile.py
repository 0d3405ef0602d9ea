"""What can be done with this repository: `nox -l` lists it, `nox -s NAME` does it."""

import itertools
import json
import os
import pathlib
import shutil
import tomllib

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "docs", "tests"]

ROOT = pathlib.Path(__file__).parent
# Each package with those of this repository that it needs.
PACKAGES = {
    "coco_cats_tfds": [],
    "unet_core": [],
    "unet_train": ["unet_core"],
}
# What is optional, and tested.
EXTRAS = {
    "coco_cats_tfds": "[heic]",
    "unet_core": "[pretrained]",
    "unet_train": "[heic,litert,onnx]",
}
# dill: the class with which TFDS tests builders imports it.
# playwright: drives the Chromium of the machine, if there is one, on the exported page.
TEST_TOOLS = ["pytest", "pytest-xdist", "hypothesis", "dill", "playwright"]
# Processes that share the test files; TensorFlow takes about a gigabyte in each.
WORKERS = str(min(4, os.cpu_count() or 1))
# What tests compare with, where they get photos, what the example of a README reads its
# photo with, and what runs a notebook.
PEERS = {
    "coco_cats_tfds": ["scikit-image"],
    "unet_core": ["pillow", "scikit-image"],
    # Not scikit-learn: Keras imports it where it is installed, in each process anew.
    "unet_train": [],
    "integration": ["scikit-image", "nbclient", "ipykernel"],
}
SITE_TOOLS = ["mkdocs", "mkdocs-material", "mkdocstrings[python]", "ruff"]
# What the demo's network must reach; it has 0.91, so that a broken learner fails.
DEMO_FLOOR = 0.80
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def install(session: nox.Session, packages: list[str], *others: str) -> None:
    """Builds wheels of these packages and installs them and nothing else of ours."""
    paths = [f"./packages/{package}" for package in packages]
    session.install("-c", "constraints.txt", *paths, *others)


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on the embedded sample, from COCO's layout to pictures."""
    install(session, list(PACKAGES), "scikit-image")
    work = ROOT / "demo"
    shutil.rmtree(work, ignore_errors=True)
    coco, built, run = work / "coco", work / "tfds", work / "run"

    def call(*command: object, silent: bool = False) -> str:
        output = session.run(*map(str, command), env=QUIET, silent=silent)
        return str(output)

    call("coco-cats", "sample", coco)
    call("tfds", "build", "coco_cats", "--manual_dir", coco, "--data_dir", built)
    call(
        *("unet-train", "fit", "--config", "configs/sample.yaml"),
        *("--run_dir", run, "--data.data_dir", built),
    )
    printed = call("unet-train", "evaluate", "--run_dir", run, "--json", silent=True)
    photos = sorted((coco / "val2017").glob("*.jpg"))
    output = work / "pictures"
    call("unet-train", "predict", "--run_dir", run, *photos, "--output", output)

    scores = json.loads(printed.strip().splitlines()[-1])
    session.log(f"IoU {scores['iou']:.3f} on {scores['images']} validation images")
    if scores["iou"] < DEMO_FLOOR:
        session.error(f"The demo must reach an IoU of {DEMO_FLOOR}: see demo/run")
    session.log(f"Overlays and masks: {output.relative_to(ROOT)}")
    cat, found = chelsea(session), work / "found"
    call("unet-train", "predict", "--model", "models/cats", cat, "--output", found)
    session.log(f"What the model that ships found: {found.relative_to(ROOT)}")
    tensorboard = pathlib.Path(session.bin, "tensorboard").relative_to(ROOT)
    session.log(f"TensorBoard: {tensorboard} --logdir {run.relative_to(ROOT)}")


@nox.session
@nox.parametrize("package", [*PACKAGES, "integration"])
def tests(session: nox.Session, package: str) -> None:
    """Each package with only itself installed, then the paths that cross packages."""
    if package == "integration":
        install(session, list(PACKAGES), *TEST_TOOLS, *PEERS[package])
    else:
        itself = package + EXTRAS.get(package, "")
        install(session, [*PACKAGES[package], itself], *TEST_TOOLS, *PEERS[package])
        check_alone(session, package)
    run_tests(session, f"tests/{package}")


@nox.session(default=False, python=["3.11", "3.13"])
@nox.parametrize("package", [*PACKAGES])
def versions(session: nox.Session, package: str) -> None:
    """With the oldest of all that a package asks for on 3.11, the newest on 3.13."""
    paths = [f"./packages/{name}" for name in PACKAGES[package]]
    itself = f"./packages/{package}" + EXTRAS.get(package, "")
    pins = oldest(package) if session.python == "3.11" else []
    session.install(*paths, itself, *pins, *TEST_TOOLS, *PEERS[package])
    run_tests(session, f"tests/{package}")


def oldest(package: str) -> list[str]:
    """What a package asks for, each in the oldest version that it takes."""
    path = ROOT / "packages" / package / "pyproject.toml"
    project = tomllib.loads(path.read_text())["project"]
    optional = project.get("optional-dependencies", {})
    wanted = EXTRAS.get(package, "[]")[1:-1].split(",")
    lists = [project["dependencies"], *(optional[each] for each in wanted if each)]
    asked = itertools.chain.from_iterable(lists)
    return [each.replace(">=", "==") for each in asked if "unet_core" not in each]


@nox.session(default=False)
def backends(session: nox.Session) -> None:
    """The graph of `unet_core` on Keras's other backends."""
    install(session, ["unet_core"], *TEST_TOOLS, "jax", "torch")
    run_tests(session, "tests/unet_core/test_backends.py")


def run_tests(session: nox.Session, path: str) -> None:
    """What lies there, shared among processes."""
    # In the order of collection, into which conftest.py brings the longest files first.
    share = ["-n", WORKERS, "--dist", "loadfile", "--no-loadscope-reorder"]
    session.run("pytest", *share, path, *session.posargs, env=QUIET)


def check_alone(session: nox.Session, package: str) -> None:
    """Fails if the environment holds a package of ours that it should not."""
    strangers = set(PACKAGES) - {package, *PACKAGES[package]}
    if package == "unet_core":
        strangers |= {"tensorflow_datasets", "pycocotools", "jsonargparse", "msgspec"}
    program = (
        "import importlib.util as u; "
        f"found = [n for n in {sorted(strangers)} if u.find_spec(n)]; "
        "assert not found, found"
    )
    session.run("python", "-c", program)


@nox.session(default=False)
def train_model(session: nox.Session) -> None:
    """`models/cats` from the photographs that COCO_CATS_TEST_DATA names; an hour."""
    data = os.environ.get("COCO_CATS_TEST_DATA")
    if data is None:
        session.error(
            "Set COCO_CATS_TEST_DATA to a folder with feral_cats/, coco_real/"
        )
    install(session, ["coco_cats_tfds", "unet_core[pretrained]", "unet_train"])
    work = ROOT / "train_model"
    session.run("python", "models/make_cats.py", data, str(work), env=QUIET)


@nox.session
def lint(session: nox.Session) -> None:
    """Style."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly; what TensorFlow and Keras return counts as Any."""
    typed = ["mypy", "nox", "numpy", "msgspec", "pillow", "rich", "jsonargparse"]
    typed += ["urllib3", "matplotlib", "types-PyYAML", "hatchling"]
    session.install("-c", "constraints.txt", *typed)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation in site/; `nox -s docs -- serve` shows it while you write.

    The docstrings are read as text: none of the packages is installed. Any warning ends
    the build.
    """
    session.install("-c", "constraints.txt", *SITE_TOOLS)
    make_site(session)


@nox.session(default=False)
def site(session: nox.Session) -> None:
    """The documentation, and on its front page one that finds cats in the browser.

    npm fetches the runtime of that page, once; `nox -s docs` does without.
    """
    install(session, ["unet_core", "unet_train[onnx]"], "scikit-image", *SITE_TOOLS)
    work = ROOT / "site_demonstration"
    shutil.rmtree(work, ignore_errors=True)
    session.run(
        *("unet-train", "export", "--model", "models/cats", "--name", "cat"),
        *("--formats", "web", "--web_examples", chelsea(session)),
        *("--output", str(work)),
        env=QUIET,
    )
    make_site(session, DEMONSTRATION=str(work / "web"))


def make_site(session: nox.Session, **environment: str) -> None:
    """Into site/, or shown while one writes."""
    # Else the theme advertises its successor on each run.
    session.run(
        *("mkdocs", *(session.posargs or ["build"]), "--strict"),
        env={"NO_MKDOCS_2_WARNING": "1", **environment},
    )


def chelsea(session: nox.Session) -> str:
    """scikit-image's photograph of a cat, which the model that ships has never seen."""
    program = "import pathlib, skimage; print(pathlib.Path(skimage.__file__).parent)"
    printed = str(session.run("python", "-c", program, silent=True))
    return str(pathlib.Path(printed.strip().splitlines()[-1], "data", "chelsea.png"))


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """Everything once on the GPU of this machine, some 8 minutes; one JSON object."""
    install(session, ["coco_cats_tfds", "unet_core", "unet_train[cuda]"])
    session.run("python", "benchmarks/gpu.py", *session.posargs, env=QUIET)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Every benchmark, one JSON line each; ours and the peer in the same run."""
    others = ["opencv-python-headless", "atheris", "scikit-image"]
    install(session, list(PACKAGES), *others)
    # One wants photos and PyTorch, the other is `nox -s gpu`.
    scripts = {*os.listdir("benchmarks")} - {"peer_training.py", "gpu.py"}
    for script in session.posargs or sorted(scripts):
        session.run("python", f"benchmarks/{script}", env=QUIET)
