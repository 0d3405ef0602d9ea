"""What TensorFlow reads before it computes, and what it takes as it is written."""

import pytest
import tensorflow as tf

from unet_train import Callback, SegmentationTask, Trainer
from unet_train.graph import as_written
from unet_train.task.loss import PixelLoss


def larger_than_zero(number):
    if number > 0:
        return tf.constant("yes")
    return tf.constant("no")


def test_what_is_as_written_is_not_read():
    number = tf.constant(1)
    assert tf.function(larger_than_zero)(number) == b"yes"
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        tf.function(as_written(larger_than_zero))(number)


def test_nor_is_what_it_calls():
    called = as_written(lambda number: larger_than_zero(number))
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        tf.function(called)(tf.constant(1))
    numbers = tf.data.Dataset.range(3)
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        as_written(lambda: numbers.map(larger_than_zero))()


class OwnLoss(PixelLoss):
    """Uses Python's `if` on tensors."""

    def per_pixel(self, labels, logits):
        if tf.reduce_sum(labels) >= 0:
            return tf.abs(labels - logits) * 0 + 7
        return tf.abs(labels - logits)


class Own(SegmentationTask):
    """Uses Python's `if` on tensors, around the step of the base class."""

    def train_step(self, batch):
        logs = super().train_step(batch)
        if logs["loss"] > 0:
            logs["loss"] = tf.constant(42.0)
        return logs


class Note(Callback):
    def __init__(self):
        self.costs = []

    def on_loop_end(self, run, logs):
        self.costs += logs["loss"].tolist()


def test_a_step_of_ones_own_is_read(tmp_path, make_task, make_data):
    note = Note()
    trainer = Trainer(tmp_path, max_steps=2, callbacks=[note])
    trainer.fit(Own(make_task().model), make_data())
    assert note.costs == [42.0, 42.0]


def test_so_is_a_loss_of_ones_own(tmp_path, make_task, make_data):
    task, note = make_task(), Note()
    task.loss = OwnLoss()
    Trainer(tmp_path, max_steps=2, callbacks=[note]).fit(task, make_data())
    assert note.costs == [7.0, 7.0]
