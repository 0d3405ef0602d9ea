"""What the guides on training show runs, parses and names what there is."""

import dataclasses
import inspect
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import typing

import pytest
import yaml

from unet_train import Callback, cli
from unet_train.callbacks import Run
from unet_train.commands import fit
from unet_train.options import DataOptions, Strategy
from unet_train.training.callback import HOOKS

ROOT = pathlib.Path(__file__).parents[2]
GUIDES = [
    "docs/training.md",
    "docs/evaluating.md",
    "docs/writing_a_callback.md",
    "docs/distributed.md",
    "docs/doctor.md",
    "docs/gpu.md",
]
PAGES = [
    *GUIDES,
    "docs/exporting.md",
    "README.md",
    "packages/unet_train/README.md",
]
# Where the README leads out of the repository: to the paper and the post.
OUTSIDE = {
    "https://lmb.informatik.uni-freiburg.de/people/ronneber/u-net/",
    "https://github.com/diogojc/diogojc.github.io",
}
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(page, language):
    """The fenced blocks of a language, but for those that say why they are not run."""
    found = BLOCK.findall(TEXTS[page])
    assert TEXTS[page].count("\n```") == 2 * len(found)
    return [code for reason, tongue, code in found if tongue == language and not reason]


def all_blocks(language, *, without="\0"):
    """Of all pages, each with its page and number as its name."""
    return [
        pytest.param(code, id=f"{pathlib.Path(page).parts[-1]}-{number}")
        for page in PAGES
        for number, code in enumerate(blocks(page, language))
        if without not in code
    ]


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Every Python block that begins with the name of its file, to be imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for page in GUIDES:
        for code in blocks(page, "python"):
            if is_file := re.match(r"# (\w+\.py)\n", code):
                (folder / is_file[1]).write_text(code)
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield {path.stem for path in folder.iterdir()}
    for name in {path.stem for path in folder.iterdir()} - before:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("page", GUIDES)
def test_python_blocks_run_one_after_the_other(page, modules, data_dir, tmp_path):
    names = {"name": "discs", "data_dir": str(data_dir), "run_dir": tmp_path / "run"}
    for code in blocks(page, "python"):
        if re.match(r"# \w+\.py\n", code):
            continue  # A module; the blocks that follow import it.
        program = compile(code, page, "exec", dont_inherit=True)
        if fault := re.search(r"^# ValueError: (.*(?:\n# .*)*)", code, re.M):
            with pytest.raises(ValueError) as error:
                exec(program, names)
            assert str(error.value) == fault[1].replace("\n# ", " ")
        else:
            exec(program, names)
    for name, made in list(names.items()):
        if name.startswith("test_"):
            made()


@pytest.mark.parametrize("code", all_blocks("yaml", without="apiVersion"))
def test_yaml_blocks_are_options(code, modules, tmp_path, monkeypatch):
    from unet_core import UNetConfig, build_unet
    from unet_train import SegmentationTask
    from unet_train.registry import make_part

    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(code)
    parser = fit.parser()
    options = parser.parse_args(
        ["--config=config.yaml", "--run_dir=x", "--trainer.max_steps=1"]
    )
    made = parser.instantiate(options)
    assert all(isinstance(each, Callback) for each in made.callbacks)
    labels = options.data.labels or {}
    classes = 1 + len(labels) if len(labels) > 1 else 1
    model = build_unet(UNetConfig(depth=1, base_filters=1, classes=classes))
    if options.network is not None:
        model = make_part(options.network, {})
    task = SegmentationTask(model, **options.task.as_dict())
    if options.network is not None:
        task.check_tile_size(options.data.tile_size)


def test_the_network_and_the_loss_of_the_guide_train(
    modules, data_dir, tmp_path, capsys
):
    chosen = [
        code
        for code in blocks("docs/training.md", "yaml")
        if "my_networks" in code or "my_losses" in code
    ]
    assert len(chosen) == 2
    (tmp_path / "config.yaml").write_text("".join(chosen))
    run_dir = f"--run_dir={tmp_path / 'run'}"
    arguments = ["fit", f"--config={tmp_path / 'config.yaml'}", run_dir]
    arguments += [f"--data.data_dir={data_dir}", "--data.name=discs", "--callbacks=[]"]
    assert cli.main([*arguments, "--trainer.max_steps=2"]) == 0
    assert cli.main(["evaluate", run_dir, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3


def commands():
    """Every call of `unet-train` that the pages show."""
    call = rf"unet-train ((?:{'|'.join(cli.COMMANDS)}).*)"
    for page in PAGES:
        for language in ("sh", "yaml"):
            for code in blocks(page, language):
                yield from re.findall(call, re.sub(r"\\\n\s*", "", code))


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_are_understood(command):
    name, *arguments = shlex.split(command, comments=True)
    if "--config" in arguments:
        place = arguments.index("--config")
        path = ROOT / arguments[place + 1]
        # A reader's own file is not here.
        arguments[place : place + 2] = [f"--config={path}"] if path.exists() else []
    parser = cli.COMMANDS[name].parser()
    parser.parse_args(cli.with_true(arguments))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]*)#?[^)]*\)", TEXTS[page]):
        if link not in OUTSIDE:
            assert (ROOT / page).parent.joinpath(link).exists(), link
    headings = re.findall(r"^#+ (.+)$", TEXTS[page], re.M)
    plain = {re.sub(r"[^\w -]", "", each).lower() for each in headings}
    slugs = {each.replace(" ", "-") for each in plain}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXTS[page])) <= slugs


def row_of(page, name):
    """The row of a table that begins with a name."""
    found = re.findall(rf"^\| (?:[^|]*, )?`{re.escape(name)}.*$", TEXTS[page], re.M)
    assert found, f"{page} has no row for {name}"
    return found[0]


def test_every_loss_is_in_the_table_with_its_options():
    from unet_train.losses import LOSSES

    for name, made in LOSSES.items():
        row = row_of("docs/training.md", name)
        for option, parameter in inspect.signature(made).parameters.items():
            assert f"`{option}`" in row
            if name != "bce_dice" and parameter.default is not None:
                assert f"{parameter.default:g}" in row


def test_every_augmentation_is_in_the_table():
    fields = [field.name for field in dataclasses.fields(DataOptions)]
    chosen = fields[fields.index("mirror") : fields.index("border_weight")]
    assert len(chosen) == 11
    for name in chosen:
        row_of("docs/training.md", name)


def test_every_hook_and_field_is_in_a_table():
    for hook in HOOKS:
        arguments = inspect.signature(getattr(Callback, hook)).parameters
        shown = ", ".join(name for name in arguments if name != "self")
        assert f"| `{hook}({shown})` |" in TEXTS["docs/writing_a_callback.md"]
    for field in [*dataclasses.fields(Run), Run.epoch.fget]:
        name = getattr(field, "name", "epoch")
        assert f"`{name}`" in TEXTS["docs/writing_a_callback.md"]


def test_every_method_of_a_writer_is_in_the_table():
    from unet_train.writers import Writer

    for name, method in vars(Writer).items():
        if not name.startswith("_"):
            arguments = ", ".join(list(inspect.signature(method).parameters)[1:])
            row = row_of("docs/writing_a_callback.md", f"{name}({arguments})")
            kind = "required" if name in Writer.__abstractmethods__ else "optional"
            assert f"| {kind} |" in row


def test_every_strategy_is_in_the_table():
    for name in typing.get_args(Strategy):
        row_of("docs/distributed.md", name)


def machines_of(text, monkeypatch):
    from unet_train.training.devices import _machines

    monkeypatch.setenv("TF_CONFIG", text)
    assert _machines() == [("worker", 0), ("worker", 1)]
    return json.loads(text)


def test_clusters_are_understood(monkeypatch):
    page = "docs/distributed.md"
    (shown,) = blocks(page, "json")
    first = machines_of(shown, monkeypatch)
    exported = re.findall(r"^export TF_CONFIG='([^']+)'$", TEXTS[page], re.M)
    configs = [machines_of(each, monkeypatch) for each in exported]
    assert configs[0] == first
    assert configs[1] == {**first, "task": {"type": "worker", "index": 1}}


def run_with_stubs(script, folder, stubs, **environment):
    """Runs a script with other programs in place of those that are not here."""
    for name, content in stubs.items():
        (folder / name).write_text(f"#!/bin/bash\n{content}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **environment, "PATH": path},
    )  # fmt: skip
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("status", [0, 143])
def test_the_slurm_script_tells_each_task_its_place(tmp_path, monkeypatch, status):
    (script,) = (
        code for code in blocks("docs/distributed.md", "sh") if "#SBATCH" in code
    )
    stubs = {
        "scontrol": '[ "$1" = requeue ] && echo "$@" || printf "node-a\\nnode-b\\n"',
        # Options first, then the command; as many tasks as nodes.
        "srun": 'while [[ "$1" == --* ]]; do shift; done; worst=0\n'
        'for task in 0 1; do SLURM_PROCID=$task "$@" || worst=$?; done; exit $worst',
        "unet-train": f'echo $TF_CONFIG; echo "$@" >> arguments; exit {status}',
    }
    printed = run_with_stubs(
        script, tmp_path, stubs, SLURM_JOB_ID="12345", SLURM_JOB_NODELIST="node-[a-b]"
    )
    *configs, last = printed.splitlines() if status else [*printed.splitlines(), ""]
    assert last == ("requeue 12345" if status else "")
    for index, config in enumerate(configs):
        assert machines_of(config, monkeypatch) == {
            "cluster": {"worker": ["node-a:22345", "node-b:22345"]},
            "task": {"type": "worker", "index": index},
        }
    first, second = (tmp_path / "arguments").read_text().splitlines()
    assert first == second
    fit.parser().parse_args(
        shlex.split(first.replace("configs", str(ROOT / "configs")))[1:]
    )


def test_the_manifest_fits_together(tmp_path, monkeypatch):
    (text,) = (
        code for code in blocks("docs/distributed.md", "yaml") if "apiVersion" in code
    )
    service, job = yaml.safe_load_all(text)
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["completions"] == spec["parallelism"] == 2
    (port,) = (each["port"] for each in service["spec"]["ports"])
    assert container["ports"] == [{"containerPort": port}]
    rules = [rule.get("onExitCodes") for rule in spec["podFailurePolicy"]["rules"]]
    assert rules[1]["containerName"] == container["name"]
    (volume,) = pod["volumes"]
    assert container["volumeMounts"][0]["name"] == volume["name"]
    # The name that an indexed Job gives a pod, in the domain of the service.
    pods = [f"{name}-{index}.{pod['subdomain']}:{port}" for index in range(2)]
    for index in range(2):
        printed = run_with_stubs(
            container["args"][0], tmp_path, {"unet-train": "echo $TF_CONFIG"},
            JOB_COMPLETION_INDEX=str(index),
        )  # fmt: skip
        assert machines_of(printed, monkeypatch) == {
            "cluster": {"worker": pods},
            "task": {"type": "worker", "index": index},
        }
