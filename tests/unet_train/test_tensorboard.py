"""Event files, read back with TensorBoard's own reader."""

import io

import numpy as np
import PIL.Image
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow.core.framework import graph_pb2

from unet_core import UNetConfig, build_unet
from unet_train import Trainer
from unet_train.callbacks import TensorBoard
from unet_train.callbacks.tensorboard import side_by_side
from unet_train.writers import TensorBoardWriter
from unet_train.writers.layer_graph import layer_graph


@pytest.fixture(scope="module")
def events(tmp_path_factory, data_dir):
    from unet_train import SegmentationData, SegmentationTask

    run_dir = tmp_path_factory.mktemp("run")
    trainer = Trainer(
        run_dir, max_steps=7, steps_per_loop=3, eval_every_steps=4,
        callbacks=[TensorBoard(images=2, images_every_steps=5)],
    )  # fmt: skip
    task = SegmentationTask(build_unet(UNetConfig(depth=1, base_filters=2)))
    data = SegmentationData("discs", data_dir=str(data_dir), tile_size=30, batch_size=2)
    trainer.fit(task, data)
    # 0 means that no value is dropped.
    reader = EventAccumulator(str(run_dir), {"tensors": 0, "images": 0})
    reader.Reload()
    return reader


def scalars(events, tag):
    import tensorflow as tf

    return {
        event.step: float(tf.make_ndarray(event.tensor_proto))
        for event in events.Tensors(tag)
    }


def test_the_cost_of_every_step(events):
    costs = scalars(events, "cost")
    assert list(costs) == [1, 2, 3, 4, 5, 6, 7]
    assert all(np.isfinite(cost) and cost > 0 for cost in costs.values())
    assert set(scalars(events, "learning_rate").values()) == {np.float32(1e-3)}


def test_validation_scores(events):
    for name in ("iou", "dice", "precision", "recall"):
        assert list(scalars(events, f"validation/{name}")) == [4, 7]


def test_two_training_images_with_mask_and_prediction(events):
    written = events.Tensors("training/image_mask_prediction")
    assert [event.step for event in written] == [3, 7]
    width, height, *pictures = written[-1].tensor_proto.string_val
    assert (int(width), int(height)) == (3 * 14 + 2 * 2, 14)
    assert len(pictures) == 2
    picture = np.asarray(PIL.Image.open(io.BytesIO(pictures[0])))
    assert picture.shape == (14, 46, 3)


def test_the_picture_shows_what_the_task_predicts(tmp_path, make_task, make_data):
    task, data, shown = make_task(), make_data(), []

    class Keeper(TensorBoardWriter):
        def images(self, step, values):
            shown.extend(values.values())

    callbacks = [TensorBoard(images=1, writer=Keeper(tmp_path))]
    Trainer(tmp_path, max_steps=1, callbacks=callbacks).fit(task, data)
    batches = data.train_batches(margin=task.margin, seed=0)
    tiles, masks = (part[:1].numpy() for part in next(iter(batches)))
    probabilities = 1 / (1 + np.exp(-task.model(tiles, training=False).numpy()))
    expected = side_by_side(tiles, masks, probabilities)
    np.testing.assert_allclose(shown[-1].astype(int), expected, atol=1)


def test_configuration(events):
    text = events.Tensors("config")[0].tensor_proto.string_val[0]
    assert b"tile_size: 30" in text


def test_graph_has_one_node_a_layer(events):
    graph = graph_pb2.GraphDef.FromString(events.Graph().SerializeToString())
    names = {node.name for node in graph.node}
    assert {"image", "encoder_0/conv_1", "decoder_0/concat", "logits"} <= names
    assert len(names) == len(graph.node) < 40


def test_layer_graph_has_the_edges_of_the_u():
    model = build_unet(UNetConfig(depth=2, base_filters=2))
    graph = layer_graph(model)
    assert len(graph.node) == len(model.layers)
    inputs = {node.name: list(node.input) for node in graph.node}
    assert inputs["decoder_1/concat"] == ["decoder_1/crop", "decoder_1/up_norm"]
    assert inputs["decoder_1/crop"] == ["encoder_1/norm_2"]
    assert all(source in inputs for sources in inputs.values() for source in sources)
    conv = next(node for node in graph.node if node.name == "encoder_0/conv_1")
    assert conv.op == "Conv2D"
    assert conv.attr["weights"].i == 3 * 3 * 3 * 2 + 2


def test_side_by_side():
    tiles = np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1).repeat(3, -1)
    masks = np.array([[0, 1], [255, 0]], np.uint8).reshape(1, 2, 2, 1)
    probabilities = np.array([[0.0, 1.0], [0.5, 0.2]], np.float32).reshape(1, 2, 2, 1)
    picture = side_by_side(tiles, masks, probabilities)[0, ..., 0]
    np.testing.assert_array_equal(picture[:, :2], tiles[0, 2:4, 2:4, 0])
    np.testing.assert_array_equal(picture[:, 4:6], [[0, 255], [128, 0]])
    np.testing.assert_array_equal(picture[:, 8:], [[0, 255], [128, 51]])


def test_a_broken_run_leaves_a_readable_log(tmp_path, make_task, make_data):
    task = make_task()

    def fail(batch):
        raise KeyboardInterrupt

    task.train_step = fail
    trainer = Trainer(tmp_path, max_steps=2, callbacks=[TensorBoard()])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(task, make_data())
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert reader.Tags()["graph"]


def test_impossible_options():
    with pytest.raises(ValueError, match="must be at least 1. Received: 0, 100"):
        TensorBoard(images=0)
