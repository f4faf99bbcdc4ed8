"""The protocol's datatypes: what a tensor may hold, and which inputs hold that exactly."""

from collections.abc import Mapping
from dataclasses import dataclass

from gyral.contracts.deployment import Datatype

_BOOL, _INT64, _FP32, _FP64, _BYTES = (
    Datatype.BOOL,
    Datatype.INT64,
    Datatype.FP32,
    Datatype.FP64,
    Datatype.BYTES,
)
_SMALL = frozenset({_INT64, _FP32, _FP64})
_MIDDLE = frozenset({_INT64, _FP64})
_FLOAT = frozenset({_FP32, _FP64})


@dataclass(frozen=True, slots=True)
class Kind:
    """One datatype as it is sent."""

    exact: frozenset[Datatype]
    """Datatypes of an input that hold each of its values."""
    size_bytes: int
    """Of one element in binary; 0 where that varies."""
    code: str
    """The same for `memoryview.cast`; FP16 and BF16 are bits to it."""
    least: int = 0
    most: int = 0
    """The range of whole numbers."""
    json: bool = True
    """False where the protocol has it in binary only."""

    @property
    def whole(self) -> bool:
        """True for whole numbers."""
        return self.most > 0


def _whole(exact: frozenset[Datatype], bits: int, code: str, *, signed: bool) -> Kind:
    span = 1 << (bits - signed)
    return Kind(exact, bits // 8, code, -span if signed else 0, span - 1)


KINDS: Mapping[str, Kind] = {
    "BOOL": Kind(frozenset({_BOOL}), 1, "B"),
    "UINT8": _whole(_SMALL, 8, "B", signed=False),
    "UINT16": _whole(_SMALL, 16, "H", signed=False),
    "UINT32": _whole(_MIDDLE, 32, "I", signed=False),
    "UINT64": _whole(frozenset(), 64, "Q", signed=False),
    "INT8": _whole(_SMALL, 8, "b", signed=True),
    "INT16": _whole(_SMALL, 16, "h", signed=True),
    "INT32": _whole(_MIDDLE, 32, "i", signed=True),
    "INT64": _whole(frozenset({_INT64}), 64, "q", signed=True),
    "FP16": Kind(_FLOAT, 2, "H", json=False),
    "BF16": Kind(_FLOAT, 2, "H", json=False),
    "FP32": Kind(_FLOAT, 4, "f"),
    "FP64": Kind(frozenset({_FP64}), 8, "d"),
    "BYTES": Kind(frozenset({_BYTES}), 0, ""),
}
"""Every datatype of Open Inference V2, and BF16, by its name."""
EXACT = {(name, into) for name, kind in KINDS.items() for into in kind.exact}
"""Pairs of a datatype sent and an input's datatype that holds it."""


def holders(datatype: Datatype) -> str:
    """Return what may be sent for an input, as a message shows it."""
    others = sorted(name for name, into in EXACT if into == datatype != name)
    return f"{datatype} (or {', '.join(others)})" if others else datatype.value
