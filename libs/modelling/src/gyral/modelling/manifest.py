"""What a model artifact is and came from: enough to load it, check it and train it again."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gyral.modelling.documents import canonical_json, parse_json
from gyral.modelling.features import Encoding, FeatureKind, FeatureSpec, FittedNumber, Transform

Sha256: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name: TypeAlias = Annotated[str, Meta(min_length=1)]


class OnnxModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The single ONNX file: its bytes, its one float32 input [n, k], its probabilities.

    The output holds probabilities, shape [n], [n, 1] or [n, classes]; in the last case the
    positive class is in column `positive_column`.
    """

    sha256: Sha256
    size_bytes: Annotated[int, Meta(gt=0)]
    input: Name
    output: Name
    positive_column: Annotated[int, Meta(ge=0)] = 1


Setting: TypeAlias = float | int | bool | str | tuple[int, ...]
"""One value of a network's configuration."""


def made_of(code_sha256: str, entry: str, config: Mapping[str, Setting]) -> str:
    """Return the SHA-256 of all that builds a network, which its weights name."""
    told = msgspec.json.encode((code_sha256, entry, config), order="sorted")
    return hashlib.sha256(told).hexdigest()


class TorchModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights (`model.safetensors`), and the sources (`code.zip`) that build their network.

    `entry` names a module of the sources and a function in it. The function takes `config` and
    returns the network, from float32 [n, k] to probabilities of shape [n].
    """

    sha256: Sha256
    """Of the weights."""
    size_bytes: Annotated[int, Meta(gt=0)]
    code_sha256: Sha256
    entry: Annotated[
        str, Meta(pattern="^[a-z_][a-z0-9_]*(\\.[a-z_][a-z0-9_]*)*:[a-z_][a-z0-9_]*$")
    ]
    config: dict[str, Setting]


class DatasetPin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version of a stream's table that was read."""

    stream: Name
    version: Annotated[int, Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trained model, as loaded by the runtime and judged by the registry.

    Either `onnx` or `torch` is there, and says the model's format.
    `cutoff_us` is the event time in microseconds UTC from which on no row or label was seen;
    `rows` counts the training rows; `libraries` maps distribution names to their versions.
    """

    schema: Literal["gyral.manifest/1"] = "gyral.manifest/1"
    model: Name
    run_id: Name
    trainer: Name
    positive: Name
    inputs: Annotated[tuple[FeatureSpec, ...], Meta(min_length=1)]
    transform: Transform
    onnx: OnnxModel | UnsetType = UNSET
    torch: TorchModel | UnsetType = UNSET
    datasets: Annotated[tuple[DatasetPin, ...], Meta(min_length=1)]
    cutoff_us: int
    rows: Annotated[int, Meta(ge=1)]
    seed: int
    code_version: Name
    libraries: dict[str, str]

    def __post_init__(self) -> None:
        if (self.onnx is UNSET) is (self.torch is UNSET):
            found = "neither" if self.onnx is UNSET else "both"
            raise ValueError(f"onnx, torch: expected exactly one of them, found {found}")
        names = [it.name for it in self.inputs]
        repeated = [name for name, times in Counter(names).items() if times > 1]
        if repeated:
            raise ValueError(f"inputs: expected distinct names, found {repeated[0]!r} twice")
        if list(self.transform.names) != names:
            found = ", ".join(self.transform.names)
            raise ValueError(
                f"transform.features: expected {', '.join(names)} as in inputs, found {found}"
            )
        for declared, fitted in zip(self.inputs, self.transform.features, strict=True):
            number = isinstance(fitted, FittedNumber)
            if number is (declared.kind is FeatureKind.CATEGORICAL):
                name, found = declared.name, "a number" if number else "categories"
                raise ValueError(
                    f"transform.features.{name}: expected {declared.kind}, found {found}"
                )

    @property
    def model_file(self) -> OnnxModel | TorchModel:
        """The model, in the one format that it has."""
        if isinstance(self.onnx, OnnxModel):
            return self.onnx
        assert isinstance(self.torch, TorchModel)  # noqa: S101 - as checked when it was made
        return self.torch

    @property
    def code_sha256(self) -> str | None:
        """Digest of the network's sources; None: the model is ONNX."""
        return self.torch.code_sha256 if isinstance(self.torch, TorchModel) else None

    @property
    def encoding(self) -> Encoding:
        """Layout of the matrix that the model reads."""
        return self.transform.encoding

    def to_json(self) -> bytes:
        """Write the canonical JSON."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a manifest; raises DocumentError naming field, expected and found."""
        return parse_json(text, cls, "manifest.json")
