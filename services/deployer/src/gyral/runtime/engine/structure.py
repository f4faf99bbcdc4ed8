"""What an ONNX file may be made of: one file, nothing outside it, nothing onnx objects to."""

from collections.abc import Iterable, Iterator

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto


def structural_fault(file: bytes) -> str | None:
    """Return why these bytes may not be loaded, or None.

    External data are refused before anything follows them: a runtime would read whatever file
    they name.
    """
    try:
        model = onnx.load_model_from_string(file)
    except Exception as error:  # noqa: BLE001 - protobuf's backends differ in them
        return f"model.onnx: expected an ONNX model; found {type(error).__name__}"
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            return (
                f"model.onnx: expected all data inside the file; tensor {tensor.name[:80]!r}"
                " has external data"
            )
    try:
        onnx.checker.check_model(file, full_check=False)
    except onnx.checker.ValidationError as error:
        return f"model.onnx: {str(error).splitlines()[0][:300]}"
    return None


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
        yield from _of_attributes(function.attribute_proto)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Iterable[AttributeProto]) -> Iterator[TensorProto]:
    for attribute in attributes:
        yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _of_graph(graph)
