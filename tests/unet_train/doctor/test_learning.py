"""How long one batch is learned, and what is said meanwhile."""

import itertools

import pytest

from unet_train.data.share import Share
from unet_train.doctor.learning import check_learning, overfit_one_batch


def learn(task, data, **options):
    """By a clock on which a step takes 13 s, and reading it nothing."""
    clock = itertools.count(0, 6.5)
    lines = []
    options = {"steps": 100, "seed": 0, "clock": lambda: next(clock), **options}
    overfit = overfit_one_batch(task, data, tell=lines.append, **options)
    return overfit, lines


@pytest.fixture
def lasting(make_task):
    """A task that does not learn its batch by heart before the steps are over."""
    return make_task(learning_rate=1e-9)


def test_it_ends_when_the_time_is_up(lasting, make_data):
    overfit, lines = learn(lasting, make_data(), minutes=1)
    count = len(overfit.losses)
    assert 1 < count < 10
    assert (overfit.minutes, len(overfit.ious)) == (1, 2)
    finding = check_learning(overfit, learning_rate=1e-9, loss="bce")
    assert finding.verdict == "warning"
    text = f"one batch, {count} steps, ended after the 60 seconds of --minutes: loss"
    assert finding.text.startswith(text)
    assert finding.cure.startswith("Give it more --minutes; ")
    assert lines
    assert lines[0].startswith(f"step 1 of 100, loss {overfit.losses[0]:.3g}, about ")
    assert lines[0].endswith(" left")


def test_one_step_at_least(lasting, make_data):
    overfit, _ = learn(lasting, make_data(), minutes=1e-9)
    assert len(overfit.losses) == 1


def test_time_that_suffices_is_not_named(lasting, make_data):
    overfit, _ = learn(lasting, make_data(), steps=3, minutes=60)
    assert (len(overfit.losses), overfit.minutes) == (3, None)
    finding = check_learning(overfit, learning_rate=1e-9, loss="bce")
    assert finding.text.startswith("one batch, 3 steps: loss")
    assert finding.cure.startswith("Give it more --steps; ")


def test_the_limit_at_the_last_step_ended_nothing(lasting, make_data):
    overfit, _ = learn(lasting, make_data(), steps=2, minutes=1e-9)
    assert overfit.minutes is not None
    overfit, _ = learn(lasting, make_data(), steps=1, minutes=1e-9)
    assert overfit.minutes is None


def test_the_piece_of_one_device(lasting, make_data):
    data, share = make_data(batch_size=4), Share(workers=2, replicas=2)
    whole, piece = (
        learn(lasting, data, steps=1, share=each)[0].logits.size
        for each in (Share(), share)
    )
    assert whole == 4 * piece
