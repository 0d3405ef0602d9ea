"""Checkpoints are complete or absent."""

import builtins
import errno
import io
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from unet_train.runs.checkpoint import Checkpoints, DamagedError, step_of


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def names(checkpoints):
    return [path.name for path in checkpoints.all()]


def test_gives_back_what_it_took(checkpoints):
    path = checkpoints.save(7, {"x": tf.Variable([1.0, 2.0])}, {"note": "ä"})
    assert step_of(path) == 7
    variable = tf.Variable([0.0, 0.0])
    assert checkpoints.restore(path, {"x": variable}) == {"note": "ä"}
    np.testing.assert_array_equal(variable, [1, 2])


def test_keeps_the_newest(checkpoints):
    for step in (5, 90, 100):
        checkpoints.save(step, {"x": tf.Variable(0.0)}, {})
    assert names(checkpoints) == ["step_00000090", "step_00000100"]
    assert step_of(checkpoints.latest()) == 100


def test_none_at_first(checkpoints):
    assert checkpoints.latest() is None


def test_an_interrupted_write_does_not_count(checkpoints, monkeypatch):
    checkpoints.save(1, {"x": tf.Variable(1.0)}, {})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("unet_train.runs.checkpoint._sync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(2, {"x": tf.Variable(2.0)}, {})
    assert names(checkpoints) == ["step_00000001"]
    monkeypatch.undo()
    checkpoints.save(2, {"x": tf.Variable(2.0)}, {})
    assert names(checkpoints) == ["step_00000001", "step_00000002"]


def test_checkpoint_of_another_model_is_refused(checkpoints, make_task):
    path = checkpoints.save(1, {"model": make_task().model}, {})
    other = make_task({"base_filters": 6}).model
    with pytest.raises(ValueError, match="does not fit the model"):
        checkpoints.restore(path, {"model": other})


def save(checkpoints, *steps):
    """Checkpoints whose value and note are their step."""
    for step in steps:
        checkpoints.save(step, {"x": tf.Variable(float(step))}, {"note": step})


DATA, INDEX, STATE = "tensors.data-00000-of-00001", "tensors.index", "state.json"


def change(name, function):
    """A fault that changes the bytes of one file."""
    return lambda path: (path / name).write_bytes(function((path / name).read_bytes()))


def change_state(function):
    """A fault of a state that no checksum tells, as version 0.1.0 wrote them."""

    def damage(path):
        state = json.loads((path / STATE).read_text())
        del state["checksum"]
        (path / STATE).write_text(json.dumps(function(state)))

    return damage


def remove(name):
    return lambda path: (path / name).unlink()


def make_folder(name):
    def damage(path):
        (path / name).unlink()
        (path / name).mkdir()

    return damage


def flip(place):
    def flipped(content):
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]

    return flipped


FAULTS = {
    "data_cut": change(DATA, lambda content: content[:-1]),
    "data_empty": change(DATA, lambda content: b""),
    "data_flipped": change(DATA, lambda content: bytes(255 - each for each in content)),
    "data_first_bit": change(DATA, flip(0)),
    "data_last_bit": change(DATA, flip(1)),
    "data_zeros": change(DATA, lambda content: bytes(len(content))),
    "data_missing": remove(DATA),
    "data_folder": make_folder(DATA),
    "index_cut": change(INDEX, lambda content: content[: len(content) // 2]),
    "index_empty": change(INDEX, lambda content: b""),
    "index_middle_bit": change(INDEX, flip(0.5)),
    "index_footer_bit": change(INDEX, flip(0.9)),
    "index_longer": change(INDEX, lambda content: content + b"more"),
    "index_missing": remove(INDEX),
    "index_folder": make_folder(INDEX),
    "state_half": change(STATE, lambda content: b'{"note"'),
    "state_empty": change(STATE, lambda content: b""),
    "state_digit": change(STATE, lambda content: content.replace(b": 2", b": 3", 1)),
    "state_key": change(STATE, lambda content: content.replace(b"note", b"Note")),
    "state_no_utf8": change(STATE, lambda content: content.replace(b"o", b"\xff")),
    "state_nested": change(STATE, lambda content: b"[" * 100_000),
    "state_missing": remove(STATE),
    "state_list": change_state(lambda state: [state]),
    "state_number": change_state(lambda state: 3),
    "state_lacks_a_key": change_state(lambda state: {"format": 2}),
    "state_text_for_a_number": change_state(lambda state: {**state, "note": "2"}),
    "state_truth_for_a_number": change_state(lambda state: {**state, "note": True}),
    "state_of_another_step": change_state(lambda state: {**state, "step": 1}),
}  # fmt: skip


def restore_newest(checkpoints):
    """Value and state after it, and which checkpoints it called damaged."""
    variable, damaged = tf.Variable(0.0), []
    state = checkpoints.restore_newest(
        {"x": variable},
        {"note": int},
        on_damaged=lambda path, _: damaged.append(path.name),
    )
    return float(variable), state, damaged


def test_the_newest_is_restored(checkpoints):
    assert restore_newest(checkpoints) == (0.0, None, [])
    save(checkpoints, 1, 2)
    assert restore_newest(checkpoints) == (2.0, {"note": 2}, [])


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_damaged_one_costs_only_itself(checkpoints, fault):
    save(checkpoints, 1, 2)
    fault(checkpoints.latest())
    assert restore_newest(checkpoints) == (1.0, {"note": 1}, ["step_00000002"])


def without_checksum(path):
    change_state(lambda state: state)(path)


def test_one_of_version_0_1_0_has_no_checksum(checkpoints):
    save(checkpoints, 1)
    without_checksum(checkpoints.latest())
    assert restore_newest(checkpoints) == (1.0, {"note": 1}, [])


def test_any_byte_of_any_file_may_be_wrong(checkpoints):
    """Then the checkpoint is damaged, or what is read is what was written."""
    save(checkpoints, 2)
    path = checkpoints.latest()
    (checkpoints.directory / "step_00000001").mkdir()  # Always damaged: has no files.
    for name in (DATA, INDEX, STATE):
        whole = (path / name).read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 40)):
            for torn in (whole[:at], flip(at / (len(whole) - 1))(whole)):
                (path / name).write_bytes(torn)
                try:
                    found = restore_newest(checkpoints)
                except DamagedError:
                    continue
                value, state, damaged = found
                assert (value, state["note"], damaged) == (2.0, 2, []), (name, at)
        (path / name).write_bytes(whole)


def test_files_of_two_checkpoints_do_not_mix(checkpoints):
    save(checkpoints, 1, 2)
    first, second = checkpoints.all()
    for name in (DATA, INDEX):
        (second / name).write_bytes((first / name).read_bytes())
    assert restore_newest(checkpoints) == (1.0, {"note": 1}, ["step_00000002"])


def contents(checkpoints):
    files = (path for path in checkpoints.directory.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


# What TensorFlow 2.21 raises; its reader tells no kind but in the text.
MACHINE_FAULTS = {
    "memory": MemoryError(),
    "reader_rights": tf.errors.OpError(
        None, None, "/run/tensors.index; Permission denied", 2
    ),
    "reader_disk": tf.errors.OpError(
        None, None, "/run/tensors.data; Input/output error", 2
    ),
    "op_memory": tf.errors.ResourceExhaustedError(
        None, None, "OOM when allocating tensor with shape[9,9] and type float"
    ),
    "op_files": tf.errors.ResourceExhaustedError(
        None, None, "/run/tensors.data; Too many open files [Op:RestoreV2]"
    ),
    "op_disk": tf.errors.UnknownError(None, None, "/run; Input/output error"),
    "op_rights": tf.errors.PermissionDeniedError(
        None, None, "/run/tensors.data; Permission denied"
    ),
    "op_device_gone": tf.errors.NotFoundError(
        None, None, "/run/tensors.data; No such device"
    ),
    "op_busy": tf.errors.UnavailableError(None, None, "/run; Interrupted system call"),
    "op_stale": tf.errors.AbortedError(None, None, "/run; Stale file handle"),
}  # fmt: skip


@pytest.mark.parametrize("error", MACHINE_FAULTS.values(), ids=MACHINE_FAULTS)
def test_a_fault_of_the_machine_is_no_damage(checkpoints, monkeypatch, error):
    save(checkpoints, 1, 2)
    before = contents(checkpoints)

    def read(*_):
        raise error

    monkeypatch.setattr(tf.train.Checkpoint, "read", read)
    said = getattr(error, "message", "MemoryError")
    with pytest.raises(
        OSError, match="step_00000002 cannot be read: .* try again"
    ) as e:
        restore_newest(checkpoints)
    assert said in str(e.value)
    assert contents(checkpoints) == before
    monkeypatch.undo()
    assert restore_newest(checkpoints) == (2.0, {"note": 2}, [])


@pytest.mark.parametrize("name", [STATE, INDEX])
@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE]
)
def test_a_file_that_the_system_does_not_give(checkpoints, monkeypatch, name, number):
    save(checkpoints, 1, 2)
    before = contents(checkpoints)
    honest = io.open

    def refuse(file, *arguments, **options):
        if pathlib.Path(file).name == name:
            raise OSError(number, os.strerror(number), str(file))
        return honest(file, *arguments, **options)

    for module in (io, builtins):
        monkeypatch.setattr(module, "open", refuse)
    fault = f"cannot be read: .*step_00000002/{name}: {os.strerror(number)}.* try again"
    with pytest.raises(OSError, match=fault):
        restore_newest(checkpoints)
    monkeypatch.undo()
    assert contents(checkpoints) == before


@pytest.mark.skipif(not pathlib.Path("/proc/self/mem").exists(), reason="Linux only")
def test_a_disk_that_gives_an_error(checkpoints):
    save(checkpoints, 1, 2)
    data = checkpoints.latest() / DATA
    data.unlink()
    data.symlink_to("/proc/self/mem")  # Its first page is not there to be read.
    with pytest.raises(OSError, match=f"{DATA}; Input/output error.* left as it is"):
        restore_newest(checkpoints)


def test_rights_are_missing_on_the_folder_of_all(checkpoints, monkeypatch):
    save(checkpoints, 1)

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied", "checkpoints")

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    with pytest.raises(PermissionError, match="Permission denied: 'checkpoints'"):
        checkpoints.latest()


def test_weights_of_another_type_are_of_another_model(checkpoints):
    save(checkpoints, 1)
    with pytest.raises(ValueError, match="does not fit the model.*expected dtype") as e:
        checkpoints.restore(
            checkpoints.latest(), {"x": tf.Variable(0.0, dtype="double")}
        )
    assert not isinstance(e.value, DamagedError)


def test_another_format_is_not_damage(checkpoints):
    save(checkpoints, 1)
    change_state(lambda state: {**state, "format": 3})(checkpoints.latest())
    with pytest.raises(ValueError, match="has the format 3.*reads 2. Use the ver") as e:
        restore_newest(checkpoints)
    assert not isinstance(e.value, DamagedError)


def test_all_damaged(checkpoints):
    save(checkpoints, 1, 2)
    for path in checkpoints.all():
        FAULTS["data_cut"](path)
    with pytest.raises(DamagedError, match="step_00000001 is damaged.*Delete this"):
        restore_newest(checkpoints)
    assert names(checkpoints) == ["step_00000001", "step_00000002"]


def test_a_damaged_one_is_set_aside_and_saved_anew(checkpoints):
    for _ in range(2):  # The second time another one lies there.
        save(checkpoints, 1, 2)
        aside = checkpoints.set_aside(checkpoints.latest())
        assert aside.name == "damaged_step_00000002"
        assert aside.is_dir()
        assert names(checkpoints) == ["step_00000001"]
    save(checkpoints, 2, 3)
    assert names(checkpoints) == ["step_00000002", "step_00000003"]
    assert aside.is_dir()


def test_what_a_kill_left_is_ignored_and_removed(checkpoints):
    save(checkpoints, 1, 4)
    for name in (".step_00000006.partial", ".step_00000002.old"):
        folder = checkpoints.directory / name
        folder.mkdir()
        (folder / "tensors.index").write_bytes(b"half")
    assert restore_newest(checkpoints) == (4.0, {"note": 4}, [])
    save(checkpoints, 6)
    left = sorted(path.name for path in checkpoints.directory.iterdir())
    assert left == ["step_00000004", "step_00000006"]
    assert restore_newest(checkpoints) == (6.0, {"note": 6}, [])


def test_a_full_disk_leaves_what_was_there(checkpoints, monkeypatch):
    save(checkpoints, 1, 2)

    def write(self, prefix):
        with open(f"{prefix}.index", "w") as half:
            half.write("half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", write)
    with pytest.raises(
        OSError,
        match="step_00000003 cannot be written: No space left on device. Make room",
    ):
        save(checkpoints, 3)
    left = sorted(path.name for path in checkpoints.directory.iterdir())
    assert left == ["step_00000001", "step_00000002"]
    monkeypatch.undo()
    save(checkpoints, 3)
    assert restore_newest(checkpoints) == (3.0, {"note": 3}, [])


def test_a_name_that_is_no_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="expected a name step_<number>"):
        step_of(tmp_path / "damaged_step_1")
