"""Event files, read back with TensorBoard's own reader."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorflow.core.framework import graph_pb2

from unet_core import UNetConfig, build_unet
from unet_train import Callback, SegmentationData, SegmentationTask, Trainer
from unet_train.callbacks import TensorBoard
from unet_train.callbacks.tensorboard import (
    contact_sheet,
    flatten,
    hparams,
    side_by_side,
)
from unet_train.runs.load import load_model
from unet_train.writers import TensorBoardWriter
from unet_train.writers.layer_graph import layer_graph


class Notes(Callback):
    """What a run tells its callbacks, and what its validations should have counted."""

    def __init__(self):
        self.logs, self.seconds, self.curves, self.thresholds = {}, {}, {}, {}
        self.scores = {}

    def on_loop_end(self, run, logs):
        self.seconds[run.step] = run.seconds
        first = run.step - len(logs["loss"]) + 1
        for index, values in enumerate(zip(*logs.values(), strict=True)):
            self.logs[first + index] = dict(zip(logs, values, strict=True))

    def on_eval_end(self, run, scores):
        self.thresholds[run.step] = run.predictor.threshold
        self.scores[run.step] = scores
        examples = list(run.data.examples("validation"))
        masks = np.concatenate([each.mask.ravel() for each in examples])
        found = np.concatenate(
            [run.predictor.probabilities(each.image).ravel() for each in examples]
        )
        self.curves[run.step] = [
            [np.sum((found >= k / 256) & (masks == label)) for k in range(257)]
            for label in (1, 0)
        ]
        self.pixels = [np.sum(masks == label) for label in (1, 0)]


@pytest.fixture(scope="module")
def notes():
    return Notes()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def data(data_dir):
    options = {"data_dir": str(data_dir), "tile_size": 30, "batch_size": 2}
    return SegmentationData("discs", **options)


@pytest.fixture(scope="module")
def events(run_dir, data, notes):
    board = TensorBoard(images=2, images_every_steps=5, histograms_every_steps=4)
    trainer = Trainer(
        run_dir, max_steps=7, steps_per_loop=3, eval_every_steps=4,
        callbacks=[notes, board],
    )  # fmt: skip
    task = SegmentationTask(build_unet(UNetConfig(depth=1, base_filters=2)))
    trainer.fit(task, data)
    # 0 means that no value is dropped.
    reader = EventAccumulator(str(run_dir), {"tensors": 0, "images": 0})
    reader.Reload()
    return reader


def arrays(events, tag):
    """What was written under a tag, by step."""
    return {e.step: tf.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}


def scalars(events, tag):
    return {step: float(array) for step, array in arrays(events, tag).items()}


def test_the_cost_of_every_step(events):
    costs = scalars(events, "cost")
    assert list(costs) == [1, 2, 3, 4, 5, 6, 7]
    assert all(np.isfinite(cost) and cost > 0 for cost in costs.values())
    assert set(scalars(events, "learning_rate").values()) == {np.float32(1e-3)}


def test_all_that_the_loop_tells_of_a_step(events, notes):
    names = set(notes.logs[1])
    assert names >= {"loss", "learning_rate", "gradient_norm", "input_wait"}
    for name in names:
        expected = {step: float(values[name]) for step, values in notes.logs.items()}
        tag = {"loss": "cost"}.get(name, name)  # As the original called it.
        assert scalars(events, tag) == expected
    assert all(norm > 0 for norm in scalars(events, "gradient_norm").values())
    assert all(wait >= 0 for wait in scalars(events, "input_wait").values())


def test_speed_of_each_round(events, notes):
    speeds = scalars(events, "images_a_second")
    assert list(speeds) == [3, 4, 7]
    assert speeds[3] == pytest.approx(3 * 2 / notes.seconds[3], rel=1e-5)
    seconds = notes.seconds[4] - notes.seconds[3]
    assert speeds[4] == pytest.approx(1 * 2 / seconds, rel=1e-5)


def test_precision_and_recall_at_all_thresholds(events, notes):
    found = arrays(events, "validation/pr/pr_curves")
    assert list(found) == [4, 7]
    metadata = events.SummaryMetadata("validation/pr/pr_curves")
    assert metadata.plugin_data.plugin_name == "pr_curves"
    for step, table in found.items():
        tp, fp = np.array(notes.curves[step])
        foreground, background = notes.pixels
        expected = [tp, fp, background - fp, foreground - tp]
        np.testing.assert_array_equal(table[:4], expected)
        some = tp + fp > 0
        np.testing.assert_allclose(table[4][some], (tp / (tp + fp).clip(1))[some])
        np.testing.assert_array_equal(table[4][~some], 1)
        np.testing.assert_allclose(table[5], tp / foreground, rtol=1e-6)
        # The curve and the scores are of the same pixels.
        recall = scalars(events, "validation/recall")[step]
        chosen = round(256 * notes.thresholds[step])
        assert table[5][chosen] == pytest.approx(recall, rel=1e-6)


def test_options_for_the_hparams_tab(events, run_dir):
    metadata = events.SummaryMetadata("_hparams_/session_start_info")
    assert metadata.plugin_data.plugin_name == "hparams"
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    info = content.session_start_info
    assert info.group_name == run_dir.name
    assert info.hparams["1 task.learning_rate"].number_value == 1e-3
    assert info.hparams["data.tile_size"].number_value == 30
    assert info.hparams["trainer.max_steps"].number_value == 7
    assert info.hparams["2 task.loss"].string_value == "bce"
    assert info.hparams["5 data.batch_size"].number_value == 2
    assert info.hparams["data.mirror"].WhichOneof("kind") == "bool_value"
    assert info.hparams["data.foreground"].string_value == "[1]"
    assert "trainer.max_epochs" not in info.hparams


def test_flat_options():
    config = {"a": {"b": {"c": 1}, "d": None}, "e": [1, "x"], "g": True, "h": {}}
    assert flatten(config) == {"a.b.c": 1, "e": "[1, 'x']", "g": True}


def test_neither_callbacks_nor_nested_lists_among_the_options():
    config = {"callbacks": [{"class_path": "a.B"}], "a": {"b": [[1]], "c": [2]}}
    assert flatten(config) == {"a.c": "[2]"}


def test_a_part_goes_by_its_class_path():
    loss = {"class_path": "a.Tversky", "init_args": {"alpha": 0.2, "deep": [[1]]}}
    assert flatten({"task": {"loss": loss}}) == {
        "task.loss": "a.Tversky", "task.loss.alpha": 0.2,
    }  # fmt: skip


def as_the_tab_shows_it(run_dir):
    """What TensorBoard's own backend gives: options and scores, in their order."""
    from tensorboard.backend.event_processing import (
        data_provider,
        plugin_event_multiplexer,
    )
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import backend_context

    files = plugin_event_multiplexer.EventMultiplexer({run_dir.name: str(run_dir)})
    files.Reload()
    provider = data_provider.MultiplexerDataProvider(files, str(run_dir))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = RequestContext()
    experiment = context.experiment_from_metadata(
        request, "", True, context.hparams_metadata(request, ""), None
    )
    options = [info.name for info in experiment.hparam_infos]
    return options, [info.name.tag for info in experiment.metric_infos]


@pytest.mark.usefixtures("events")
def test_what_matters_comes_first_in_the_hparams_tab(run_dir):
    """It shows five options and five scores, and sorts both by their names."""
    options, scores = as_the_tab_shows_it(run_dir)
    first = ["1 task.learning_rate", "2 task.loss", "5 data.batch_size"]
    assert options[:3] == first
    assert scores[0] == "HParams/iou"


def test_the_networks_main_options_are_among_the_first():
    model = {"activation": "relu", "base_filters": 8, "depth": 2}
    config = {"callbacks": [], "data": {"batch_size": 2, "blur": 0.0}, "model": model}
    config["task"] = {"ema": 0.0, "learning_rate": 0.1, "loss": "bce"}
    assert sorted(hparams(config))[:6] == [
        "1 task.learning_rate", "2 task.loss", "4 model.depth", "5 data.batch_size",
        "6 model.base_filters", "data.blur",
    ]  # fmt: skip
    config["model"]["encoder"] = "resnet50"
    assert sorted(hparams(config))[2] == "3 model.encoder"


def test_the_score_for_the_hparams_tab(events):
    assert scalars(events, "HParams/iou") == scalars(events, "validation/iou")


def test_histograms_of_weights_and_gradients(events, run_dir):
    model = load_model(run_dir)
    tags = {tag for tag in events.Tags()["tensors"] if tag.endswith("/kernel")}
    kernels = {weight.path: weight.numpy() for weight in model.weights}
    kernels = {path: each for path, each in kernels.items() if path.endswith("/kernel")}
    assert tags == {f"{kind}/{path}" for kind in ("weights", "gradients")
                    for path in kernels}  # fmt: skip
    for path, kernel in kernels.items():
        found = arrays(events, f"weights/{path}")
        assert list(found) == [3, 7]
        lower, upper, counts = found[7].T
        assert counts.sum() == kernel.size
        assert lower[0] == pytest.approx(kernel.min(), rel=1e-5)
        assert upper[-1] == pytest.approx(kernel.max(), rel=1e-5)
        lower, upper, counts = arrays(events, f"gradients/{path}")[7].T
        assert counts.sum() == kernel.size
        assert upper[-1] > lower[0]


def test_no_histograms_unless_asked(tmp_path, make_task, data):
    callbacks = [TensorBoard()]
    Trainer(tmp_path, max_steps=1, callbacks=callbacks).fit(make_task(), data)
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert not [tag for tag in reader.Tags()["tensors"] if tag.startswith("weights")]


def test_what_the_network_sees(events, data):
    (written,) = events.Tensors("training/what_the_network_sees")
    assert written.step == 0
    width, height, *pictures = written.tensor_proto.string_val
    assert (int(width), int(height)) == (4 * 32, 4 * 32)  # 16 tiles of 30 and a frame.
    picture = np.asarray(PIL.Image.open(io.BytesIO(pictures[0])))
    batches = data.train_batches(margin=8, seed=0)
    for row, (tiles, masks) in enumerate(batches.take(8)):
        place = picture[32 * (row // 2) :, 64 * (row % 2) :][1:31, 1:31]
        inner = place[8:22, 8:22]
        tile, mask = tiles[0].numpy(), masks[0, ..., 0].numpy()
        plain = tile[8:22, 8:22][mask == 0]
        np.testing.assert_array_equal(inner[mask == 0], plain)
        np.testing.assert_allclose(place[:8], tile[:8] / 2, atol=0.5)
        tint = tile[8:22, 8:22][mask == 1] * 0.55 + np.array([255, 64, 160]) * 0.45
        np.testing.assert_allclose(inner[mask == 1], tint, atol=0.51)


def test_the_first_tiles_take_no_second_block_of_records(
    tmp_path, make_task, make_shards, parsed
):
    """A run holds `shuffle_buffer` records already."""

    class Counter(Callback):
        def on_fit_start(self, run):
            parsed.clear()

    class Stop(Callback):
        def on_fit_start(self, run):
            raise KeyboardInterrupt

    trainer = Trainer(
        tmp_path, max_steps=1, callbacks=[Counter(), TensorBoard(), Stop()]
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(make_task(), make_shards(tile_size=30))
    assert len(parsed) == 16


def test_validation_scores(events, notes):
    for name in ("loss", "iou", "dice", "precision", "recall"):
        found = scalars(events, f"validation/{name}")
        expected = {step: scores[name] for step, scores in notes.scores.items()}
        assert list(found) == [4, 7]
        assert found == pytest.approx(expected, rel=1e-6)


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


def test_side_by_side_of_classes():
    """Mask and most probable class in the same colours."""
    tiles = np.zeros((1, 6, 6, 3), np.uint8)
    masks = np.array([[0, 1], [255, 2]], np.uint8).reshape(1, 2, 2, 1)
    logits = 9 * np.eye(3, dtype=np.float32)[[[[0, 1], [1, 2]]]]
    picture = side_by_side(tiles, masks, logits)[0]
    mask, found = picture[:, 4:6], picture[:, 8:]
    np.testing.assert_array_equal(mask[0], found[0])
    np.testing.assert_array_equal(found[1, 0], found[0, 1])
    np.testing.assert_array_equal(mask[1, 1], found[1, 1])
    assert mask[1, 0].tolist() == [128] * 3
    assert len(np.unique(found.reshape(-1, 3), axis=0)) == 3
    assert not found[0, 0].any()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (5, 2)])
def test_contact_sheet(count, rows):
    tiles = np.full((count, 4, 4, 3), 100, np.uint8)
    masks = np.zeros((count, 2, 2, 1), np.uint8)
    masks[:, 0, 0], masks[:, 1, 1] = 1, 255
    sheet = contact_sheet(tiles, masks)
    assert sheet.shape == (rows * 6, 4 * 6, 3)
    assert sheet.dtype == np.uint8
    places = (
        sheet.reshape(rows, 6, 4, 6, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 6, 6, 3)
    )
    assert not places[count:].any()
    for place in places[:count]:
        # A frame, the margin darkened, foreground tinted, what is ignored darkened.
        np.testing.assert_array_equal(
            place[..., 0],
            [
                [0, 0, 0, 0, 0, 0],
                [0, 50, 50, 50, 50, 0],
                [0, 50, 170, 100, 50, 0],
                [0, 50, 100, 50, 50, 0],
                [0, 50, 50, 50, 50, 0],
                [0, 0, 0, 0, 0, 0],
            ],
        )
        assert place[2, 2].tolist() == [170, 84, 127]


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


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"images": 0}, "0, 100 and None"),
        ({"images_every_steps": 0}, "2, 0 and None"),
        ({"histograms_every_steps": -1}, "2, 100 and -1"),
        ({"histograms_every_steps": 0}, "2, 100 and 0"),
    ],
)
def test_impossible_options(options, received):
    with pytest.raises(ValueError, match=f"must be at least 1. Received: {received}"):
        TensorBoard(**options)
