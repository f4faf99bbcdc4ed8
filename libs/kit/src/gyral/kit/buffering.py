"""What a sink has fetched and not yet written, by partition, within bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from gyral.kit.batches import Partition
from gyral.kit.cloudevents import Record

_value = attrgetter("value")


@dataclass(slots=True)
class Buffer:
    """Records of each partition in order, bounded in number and in bytes."""

    max_records: int
    max_bytes: int
    _records: dict[Partition, list[Record]] = field(default_factory=dict)
    _bytes: dict[Partition, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the records."""
        return sum(map(len, self._records.values()))

    def add(self, at: Partition, records: Sequence[Record]) -> None:
        """Keep records that follow those of their partition."""
        self._records.setdefault(at, []).extend(records)
        size = sum(map(len, filter(None, map(_value, records))))
        self._bytes[at] = self._bytes.get(at, 0) + size

    def is_full(self) -> bool:
        """Tell whether it is time to write."""
        return len(self) >= self.max_records or sum(self._bytes.values()) >= self.max_bytes

    def drop(self, at: Partition) -> None:
        """Forget a partition."""
        self._records.pop(at, None)
        self._bytes.pop(at, None)

    def peek(self) -> Mapping[Partition, Sequence[Record]]:
        """Show everything."""
        return self._records

    def take(self) -> dict[Partition, list[Record]]:
        """Return everything and be empty."""
        taken, self._records = self._records, {}
        self._bytes = {}
        return taken
