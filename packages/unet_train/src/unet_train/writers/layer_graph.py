"""A Keras model as a TensorFlow graph with one node a layer.

The graph of the operations has thousands of nodes; this one shows the U. Layers of a
stage (`encoder_0_conv_1`) are grouped under it (`encoder_0/conv_1`).
"""

from __future__ import annotations

import re

import keras
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

_STAGE = re.compile(r"((?:encoder|decoder)_\d+|bottleneck)_(.+)")


def layer_graph(model: keras.Model) -> graph_pb2.GraphDef:
    """Describes a functional model.

    Args:
      model: A built functional model.

    Returns:
      A GraphDef whose nodes are the layers: the class as operation, the layers it reads
      from as inputs, its output shape and number of weights as attributes.
    """
    graph = graph_pb2.GraphDef()
    for layer in model.layers:
        node = graph.node.add(name=_node_name(layer.name), op=type(layer).__name__)
        inbound = layer._inbound_nodes[0]
        for tensor in inbound.input_tensors:
            node.input.append(_node_name(tensor._keras_history.operation.name))
        shape = inbound.output_tensors[0].shape
        node.attr["_output_shapes"].list.shape.add().CopyFrom(
            tf.TensorShape(shape).as_proto()
        )
        node.attr["weights"].i = layer.count_params()
    return graph


def _node_name(layer_name: str) -> str:
    return _STAGE.sub(r"\1/\2", layer_name)
