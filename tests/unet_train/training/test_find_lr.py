"""The search for a learning rate, in Python and on the command line."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from unet_train import SegmentationTask
from unet_train.cli import main
from unet_train.training.find_lr import LearningRates, find_learning_rate


class Scripted:
    """Makes a task report losses of ours; its weights are trained all the same."""

    def __init__(self, task, losses):
        self._task, self._honest = task, task.train_step
        self._losses = tf.constant(losses)
        task.train_step = self

    def __call__(self, batch):
        step = self._task.optimizer.iterations.value
        loss = tf.gather(self._losses, tf.cast(step, tf.int32))
        return {**self._honest(batch), "loss": loss}


def smoothed(losses):
    """The mean with weights 1, 0.9, 0.81 and so on, the newest first."""
    result = []
    for count in range(1, len(losses) + 1):
        weights = 0.9 ** np.arange(count)[::-1]
        result.append(np.average(losses[:count], weights=weights))
    return result


def test_rates_rise_by_the_same_factor(make_task, make_data):
    task = make_task(learning_rate=7.0, schedule="cosine", warmup_steps=5)
    found = find_learning_rate(
        task, make_data(), lowest=1e-5, highest=1e-2, steps=13, seed=1
    )
    expected = 1e-5 * 1000 ** (np.arange(13) / 12)
    np.testing.assert_allclose(found.rates, expected, rtol=1e-5)
    assert len(found.losses) == 13
    assert 1e-5 * (1 - 1e-6) <= found.suggestion <= found.highest <= 1e-2 * (1 + 1e-6)


def test_the_rates_are_the_optimizers(make_task, make_data):
    """Lion moves each weight by the rate, whatever its gradient."""
    task = make_task(optimizer={"class_path": "keras.optimizers.Lion"})
    bias = task.model.get_layer("logits").bias
    biases = tf.Variable(tf.zeros([11]))
    honest = task.train_step

    def train_step(batch):
        biases.scatter_nd_update(
            [[tf.cast(task.optimizer.iterations.value, tf.int32)]], bias.value[:1]
        )
        return honest(batch)

    task.train_step = train_step
    found = find_learning_rate(task, make_data(), lowest=0.01, highest=0.5, steps=11)
    moved = np.diff([*biases.numpy(), bias.numpy()[0]])[: len(found.rates)]
    assert len(moved) > 5  # It ends where the loss has risen.
    np.testing.assert_allclose(np.abs(moved), found.rates, rtol=1e-3)


def test_proposes_where_the_smoothed_loss_fell_most(make_task, make_data):
    losses = [3.0, 2.9, 2.8, 2.0, 1.2, 1.1, 1.0, 1.0, 2.0, 4.0, 4.0, 4.0]
    task = make_task()
    Scripted(task, losses)
    found = find_learning_rate(task, make_data(), lowest=1e-6, highest=1.0, steps=12)
    expected = smoothed(losses)
    np.testing.assert_allclose(found.losses, expected, rtol=1e-5)
    least = int(np.argmin(expected))
    assert 3 < least < 11
    slopes = np.gradient(expected[: least + 1])[:-1]
    assert found.highest == found.rates[least]
    assert found.suggestion == found.rates[int(np.argmin(slopes))]
    assert found.rates[0] < found.suggestion < found.highest


def test_what_falls_up_to_a_cliff(make_task, make_data):
    """The proposal is below the rate of which the text says that it is too much."""
    task = make_task()
    Scripted(task, [8.0, 7.9, 7.7, 7.4, 7.0, 6.0, 4.0, 1.0, 99.0, *[99.0] * 3])
    found = find_learning_rate(task, make_data(), steps=12)
    assert found.highest == found.rates[7]
    assert found.suggestion == found.rates[6]
    # With small steps too it keeps away from the cliff.
    task = make_task()
    Scripted(task, [*(50.0 - 0.01 * step**2 for step in range(70)), 999.0])
    found = find_learning_rate(task, make_data(), steps=100)
    assert found.highest == found.rates[69]
    assert found.highest / 4 < found.suggestion <= found.highest / 3


@pytest.mark.parametrize("bad", [1e3, np.nan, np.inf])
def test_ends_where_it_diverges(make_task, make_data, bad):
    losses = [2.0, 1.9, 1.8, 1.7, 1.6, 1.5, bad, 1.0, 1.0, 1.0, 1.0, 1.0]
    task = make_task()
    Scripted(task, losses)
    found = find_learning_rate(task, make_data(), steps=12)
    assert len(found.rates) == len(found.losses) == 6
    np.testing.assert_allclose(found.losses, smoothed(losses[:6]), rtol=1e-5)
    assert int(task.optimizer.iterations) == 7


def test_divergence_is_four_times_the_least(make_task, make_data):
    """Smoothed by the formula: 1, 1, then just below and just above four."""
    weights = 0.9 ** np.arange(4)[::-1]
    for limit, steps in ((3.99, 10), (4.01, 3)):
        fourth = limit * weights.sum() - weights[:3].sum()
        losses = [1.0, 1.0, 1.0, fourth, *[1.0] * 6]
        task = make_task()
        Scripted(task, losses)
        found = find_learning_rate(task, make_data(), steps=10)
        assert len(found.losses) == steps


def test_a_search_that_diverges_at_once(make_task, make_data):
    task = make_task()
    Scripted(task, [1.0, 1.0, *[np.nan] * 10])
    with pytest.raises(ValueError, match="diverged after 2 steps.*lower `lowest`"):
        find_learning_rate(task, make_data(), steps=10)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"lowest": 0.0}, "0.0, 1.0, 100"),
        ({"lowest": 2.0}, "2.0, 1.0, 100"),
        ({"steps": 9}, "1e-06, 1.0, 9"),
    ],
)
def test_impossible_limits(make_task, make_data, options, received):
    with pytest.raises(ValueError, match=f"at least 10. Received: {received}"):
        find_learning_rate(make_task(), make_data(), **options)


def test_tile_size_that_does_not_fit(make_task, make_data):
    with pytest.raises(ValueError, match="size 31. Nearest valid: 30 and 32"):
        find_learning_rate(make_task(), make_data(tile_size=31))


def test_batch_in_parts_as_in_training(make_task, make_data):
    """A part holds half of the tiles, and without batch norm the loss is the same."""
    losses, tiles = {}, {}
    for parts in (1, 2):
        keras.utils.set_random_seed(0)
        task = make_task({"norm": "none"})
        total, seen = task.loss.total, set()

        def watched(masks, *rest, total=total, seen=seen):
            seen.add(masks.shape[0])
            return total(masks, *rest)

        task.loss.total = watched
        data = make_data(batch_size=4)
        found = find_learning_rate(task, data, steps=10, accumulate=parts)
        losses[parts], tiles[parts] = found.losses, seen
    assert tiles == {1: {4}, 2: {2}}
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-4)


def test_a_batch_that_does_not_divide(make_task, make_data):
    data = make_data(batch_size=4)
    text = "A batch of 4 is 4 tiles on this machine, .* in 3 equal parts. Set"
    with pytest.raises(ValueError, match=text):
        find_learning_rate(make_task(), data, accumulate=3)


@pytest.mark.parametrize(
    ("highest", "text"),
    [
        (0.01, "The loss was least at 1.0e-02; try a larger --highest."),
        (0.001, "The loss was least at 1.0e-03"),
    ],
)
def test_text_names_the_option(highest, text):
    found = LearningRates(
        rates=[1e-3, 1e-2], losses=[1.0, 0.5], suggestion=0.00123, highest=highest
    )
    assert str(found).splitlines() == [
        "      rate  loss",
        "  1.00e-03  1.0000",
        "  1.00e-02  0.5000",
        "Suggested: --task.learning_rate 1.2e-03",
        text,
    ]


def test_a_model_that_can_learn_gets_a_rate_that_it_learns_with(make_task, make_data):
    keras.utils.set_random_seed(0)
    found = find_learning_rate(make_task(), make_data(), steps=60)
    assert min(found.losses) < found.losses[0]
    assert 1e-6 < found.suggestion < found.highest <= 1.0


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir):
    run_dir = tmp_path_factory.mktemp("find_lr") / "run"
    arguments = [
        "--data.name=discs", f"--data.data_dir={data_dir}", "--data.tile_size=30",
        "--data.batch_size=2", "--model.depth=1", "--model.base_filters=2",
        "--trainer.max_steps=1", "--trainer.precision=mixed_bfloat16",
    ]  # fmt: skip
    assert main(["fit", f"--run_dir={run_dir}", *arguments]) == 0
    return run_dir


def test_command_reads_the_configuration_of_a_run(run_dir, capsys):
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert "callbacks" in config
    path = run_dir.parent / "config.yaml"
    path.write_text(yaml.safe_dump({**config, "run_dir": str(run_dir)}))
    arguments = [f"--config={path}", "--json", "--steps=12", "--lowest=1e-5"]
    assert main(["find-lr", *arguments, "--highest=0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"rates", "losses", "suggestion", "highest"}
    assert found["rates"][0] == pytest.approx(1e-5)
    assert len(found["rates"]) == len(found["losses"]) <= 12
    after = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert after == before


def test_command_prints_a_table(run_dir, capsys):
    arguments = [f"--config={run_dir / 'config.yaml'}", "--steps=12"]
    assert main(["find-lr", *arguments]) == 0
    assert "Suggested: --task.learning_rate " in capsys.readouterr().out


def test_command_computes_in_parts(run_dir, capsys, monkeypatch):
    arguments = [f"--config={run_dir / 'config.yaml'}", "--steps=10"]
    seen, honest = [], SegmentationTask.train_step

    def train_step(task, batch):
        seen.append(task.accumulate)
        return honest(task, batch)

    monkeypatch.setattr(SegmentationTask, "train_step", train_step)
    assert main(["find-lr", *arguments, "--trainer.accumulate=2"]) == 0
    assert set(seen) == {2}
    assert main(["find-lr", *arguments, "--trainer.accumulate=3"]) == 2
    assert "in 3 equal parts" in capsys.readouterr().err


def test_command_refuses_impossible_limits(run_dir, capsys):
    arguments = [f"--config={run_dir / 'config.yaml'}", "--lowest=2"]
    assert main(["find-lr", *arguments]) == 2
    assert "below `highest`" in capsys.readouterr().err
