"""The messages of `inference.GRPCInferenceService`, from their field numbers.

They live in a pool of their own: a process may also load a client's generated ones, which bear
the same names. Source of the numbers: github.com/kserve/open-inference-protocol,
specification/protocol/open_inference_grpc.proto, and the repository extension of Triton.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
_NAMED = ("name string", "version string")
_TENSOR = ("name string", "datatype string", "shape int64*")
_SENT = (*_TENSOR, "parameters InferParameter%", "contents InferTensorContents")
TABLE: Mapping[str, Sequence[str]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("live bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("ready bool",),
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": ("ready bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (*_NAMED, "extensions string*"),
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelMetadataResponse": (
        "name string",
        "versions string*",
        "platform string",
        "inputs ModelMetadataResponse.TensorMetadata*",
        "outputs ModelMetadataResponse.TensorMetadata*",
    ),
    "InferParameter": (
        "bool_param bool|parameter_choice",
        "int64_param int64|parameter_choice",
        "string_param string|parameter_choice",
        "double_param double|parameter_choice",
        "uint64_param uint64|parameter_choice",
    ),
    "InferTensorContents": (
        "bool_contents bool*",
        "int_contents int32*",
        "int64_contents int64*",
        "uint_contents uint32*",
        "uint64_contents uint64*",
        "fp32_contents float*",
        "fp64_contents double*",
        "bytes_contents bytes*",
    ),
    "ModelInferRequest.InferInputTensor": _SENT,
    "ModelInferRequest.InferRequestedOutputTensor": (
        "name string",
        "parameters InferParameter%",
    ),
    "ModelInferRequest": (
        "model_name string",
        "model_version string",
        "id string",
        "parameters InferParameter%",
        "inputs ModelInferRequest.InferInputTensor*",
        "outputs ModelInferRequest.InferRequestedOutputTensor*",
        "raw_input_contents bytes*",
    ),
    "ModelInferResponse.InferOutputTensor": _SENT,
    "ModelInferResponse": (
        "model_name string",
        "model_version string",
        "id string",
        "parameters InferParameter%",
        "outputs ModelInferResponse.InferOutputTensor*",
        "raw_output_contents bytes*",
    ),
    "RepositoryIndexRequest": ("repository_name string", "ready bool"),
    "RepositoryIndexResponse.ModelIndex": (*_NAMED, "state string", "reason string"),
    "RepositoryIndexResponse": ("models RepositoryIndexResponse.ModelIndex*",),
}
"""Each message's fields, numbered from 1 in their order. `*`: repeated, `%`: a map from text,
`|`: one of the group of that name."""

Plain: TypeAlias = "str | int | float | bool | bytes"
Value: TypeAlias = (
    "Plain | Sequence[Plain] | Mapping[str, Value] | Sequence[Mapping[str, Value]]"
)


class Named(Protocol):
    """A question about a model."""

    name: str
    version: str


class IndexRequest(Protocol):
    """A question about all models."""

    repository_name: str
    ready: bool


class Parameter(Protocol):
    """One parameter's value."""

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 - protobuf's name
        """Return the field that is set."""


class Contents(Protocol):
    """A tensor's elements, typed."""

    def ListFields(self) -> Sequence[tuple["FieldOf", Sequence[Plain]]]:  # noqa: N802 - protobuf's name
        """Return the fields that are set."""


class FieldOf(Protocol):
    """A field's description."""

    name: str


class Input(Protocol):
    """One input tensor."""

    name: str
    datatype: str
    shape: Sequence[int]
    parameters: Mapping[str, Parameter]
    contents: Contents


class Output(Protocol):
    """One output that is asked for."""

    name: str
    parameters: Mapping[str, Parameter]


class InferRequest(Protocol):
    """A question."""

    model_name: str
    model_version: str
    id: str
    parameters: Mapping[str, Parameter]
    inputs: Sequence[Input]
    outputs: Sequence[Output]
    raw_input_contents: Sequence[bytes]


class Messages:
    """The classes of all messages."""

    def __init__(self) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file_descriptor())
        self._classes = {
            name: message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
            )
            for name in TABLE
        }

    def read(self, name: str, content: bytes, /) -> Message:
        """Return the message that bytes hold; raises ValueError when they hold none."""
        try:
            return self._classes[name].FromString(content)
        except DecodeError as error:
            raise ValueError(f"expected a {name}; found other bytes") from error

    def write(self, name: str, /, **fields: Value) -> bytes:
        """Return a message as bytes."""
        return self._classes[name](**fields).SerializeToString()


def file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """Return the table in the form that protobuf takes."""
    file = descriptor_pb2.FileDescriptorProto(
        name="gyral/open_inference.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, lines in sorted(TABLE.items()):  # an outer message comes before its inner ones
        outer, _, inner = name.rpartition(".")
        place = made[outer].nested_type if outer else file.message_type
        made[name] = place.add(name=inner)
        for number, line in enumerate(lines, start=1):
            _add_field(made[name], f".{PACKAGE}.{name}", number, line)
    return file


def _add_field(
    message: descriptor_pb2.DescriptorProto, full_name: str, number: int, line: str
) -> None:
    name, _, rest = line.partition(" ")
    kind, _, group = rest.partition("|")
    repeated = kind[-1] in "*%"
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    bare = kind.rstrip("*%")
    if kind.endswith("%"):
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f"{full_name}.{entry.name}"
        _add_field(entry, field.type_name, 1, "key string")
        _add_field(entry, field.type_name, 2, f"value {bare}")
    elif bare in _SCALARS:
        field.type = _SCALARS[bare]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{bare}"
    if group:
        if not message.oneof_decl:
            message.oneof_decl.add(name=group)
        field.oneof_index = 0


def parameters_of(
    given: Mapping[str, Parameter],
) -> Mapping[str, "str | bool | int | float | None"]:
    """Return parameters as plain values."""
    return {
        name: getattr(parameter, chosen) if chosen else None
        for name, parameter in given.items()
        for chosen in (parameter.WhichOneof("parameter_choice"),)
    }
