"""The sender's own account of every 2xx: what the audit compares the platform with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec


class SentRecords(msgspec.Struct, frozen=True, tag="records"):
    """Rows a stream accepted."""

    stream: str
    first: str
    last: str
    keys: list[str]


class SentPrediction(msgspec.Struct, frozen=True, tag="prediction"):
    """A prediction request that was answered 200."""

    model: str
    version: int
    request_id: str
    keys: list[str]
    probabilities: list[float]


Sent = SentRecords | SentPrediction
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Sent).decode


@dataclass(slots=True)
class Journal:
    """Appends to a file, a line an answer; use as a context manager."""

    path: Path
    _file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._file = self.path.open("wb")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def records(self, stream: str, first: str, last: str, keys: Sequence[str]) -> None:
        """Note rows that were accepted."""
        self._write(SentRecords(stream, first, last, list(keys)))

    def prediction(self, sent: SentPrediction) -> None:
        """Note an answered request."""
        self._write(sent)

    def flush(self) -> None:
        """Have the lines out of this process."""
        if self._file is not None:
            self._file.flush()

    def _write(self, sent: Sent) -> None:
        if self._file is None:
            raise ValueError(f"{self.path}: expected an open journal; enter its context first")
        self._file.write(_encode(sent) + b"\n")


def read(path: Path) -> Iterator[Sent]:
    """Yield a journal's lines; the last may be cut short by a kill and is then left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _decode(line)
