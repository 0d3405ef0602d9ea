"""The list of operations against the graph that Keras makes of it."""

import itertools

import keras

from unet_core import Geometry, UNetConfig, build_unet
from unet_core.stages import Network


def test_every_operation_against_its_layer(light_config):
    """Height, width and channels after each, by Keras's own inference of shapes."""
    model, network = build_unet(light_config), Network(light_config)
    operations = network.operations
    geometry = Geometry.of(light_config)
    sides = [geometry.nearest_valid_sizes(side)[1] for side in (60, 72)]
    sizes = [network.sizes(side) for side in sides]
    outputs = [model.get_layer(each.name).output for each in operations]
    shapes = keras.Model(model.inputs, outputs).compute_output_shape(
        (1, *sides, light_config.input_channels)
    )
    for operation, shape in zip(operations, shapes, strict=True):
        found = (1, *(each[operation] for each in sizes), operation.channels)
        assert found == tuple(shape), operation.name
    names = {layer.name for layer in model.layers} - {"image"}
    assert names == {each.name for each in operations}


def test_what_is_joined_lies_at_the_same_place(light_config):
    for operation in Network(light_config).operations:
        places = {(each.pixel, each.margin) for each in operation.sources}
        assert len(places) <= 1, operation.name


def test_sources_come_first_and_outputs_in_the_order_of_their_size():
    network = Network(UNetConfig(depth=3, deep_supervision=2, stochastic_depth=0.1))
    seen = set()
    for operation in network.operations:
        assert seen.issuperset(operation.sources)
        seen.add(operation)
    assert [each.name for each in network.outputs] == ["logits", "logits_1", "logits_2"]
    assert [each.pixel for each in network.outputs] == [1, 2, 4]


def stage(name, *, dropout=False):
    yield from (f"{name}_conv_1", f"{name}_norm_1", f"{name}_conv_2", f"{name}_norm_2")
    yield from (f"{name}_drop_path", f"{name}_shortcut", f"{name}_shortcut_crop")
    yield f"{name}_add"
    if dropout:
        yield f"{name}_dropout"


def way_up(name):
    yield from (f"{name}_up", f"{name}_up_norm", f"{name}_crop", f"{name}_concat")
    yield from stage(name)


def test_names_and_order_are_those_of_the_files_that_there_are():
    """Files of weights go by the names, and initial weights of a seed by the order."""
    config = UNetConfig(depth=2, stochastic_depth=0.1, dropout=0.1, deep_supervision=1)
    names = itertools.chain(
        ["rescale"],
        stage("encoder_0"),
        ["encoder_0_pool"],
        stage("encoder_1", dropout=True),
        ["encoder_1_pool"],
        stage("bottleneck", dropout=True),
        way_up("decoder_1"),
        ["logits_1"],
        way_up("decoder_0"),
        ["logits"],
    )
    assert [each.name for each in Network(config).operations] == list(names)
