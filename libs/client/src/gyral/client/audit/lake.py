"""Invariants of the lake: what was accepted is there once, and every offset has a place."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gyral.client.audit.log import Reach
from gyral.client.lake import Lake
from gyral.client.replay.journal import Sent, SentPrediction, SentRecords
from gyral.modelling.columns import Ints
from gyral.modelling.contents import EMPTY, Content

Place = tuple[str, int]
"""Topic and partition."""
ROWS = 1 << 14
"""More than one record can hold: a row's number in its partition is offset x ROWS + row."""


@dataclass(slots=True)
class Sender:
    """What a sender's journal says was accepted and answered."""

    keys: dict[str, set[str]]
    """Stream to the keys of the rows it accepted."""
    answers: dict[str, dict[str, tuple[int, int]]]
    """Model to request id to (version, rows)."""


def sender_of(journal: Iterator[Sent]) -> Sender:
    """Sum up a journal."""
    sender = Sender({}, {})
    for sent in journal:
        match sent:
            case SentRecords(stream=stream, keys=keys):
                sender.keys.setdefault(stream, set()).update(keys)
            case SentPrediction(model=model, request_id=request_id):
                answered = sender.answers.setdefault(model, {})
                answered[request_id] = (sent.version, len(sent.probabilities))
    return sender


@dataclass(frozen=True, slots=True)
class Keyed:
    """What tells the rows of a stream apart."""

    key: str
    """Field with a row's key."""
    event_time: str
    dedupe_us: int
    """Event time within which a key stands for one row; beyond it, for a new one."""
    personal: bool = False
    """Its sender knows other keys than the lake."""
    erased: int = 0
    """Rows that are gone: somebody asked for it, or they were kept aside for a while only."""


def records(
    lake: Lake,
    streams: Mapping[str, Keyed],
    quarantined: Mapping[str, set[str]],
    sender: Sender | None,
) -> Iterator[str]:
    """Yield a line for each row that is lost, or twice in the lake.

    Of erased rows only their number is known, and of personal keys only doubles are.

    Args:
        lake: the tables.
        streams: declared streams.
        quarantined: stream to the keys of rows kept aside.
        sender: what was accepted; None to look for doubles alone.
    """
    for stream, keyed in streams.items():
        table = lake.read(stream, [keyed.key, keyed.event_time])
        keys = table.column(keyed.key).to_pylist() if table is not None else []
        held = Counter(keys)
        recurring = {name for name, count in held.items() if count > 1}
        if table is not None and recurring:
            times = table.column(keyed.event_time).cast(pa.timestamp("us", "UTC"))
            of_keys = zip(keys, times.cast(pa.int64()).to_pylist(), strict=True)
            yield from _doubles(stream, keyed, (row for row in of_keys if row[0] in recurring))
        sent = sender.keys.get(stream, set()) if sender and not keyed.personal else set()
        missing = sorted(sent - held.keys() - quarantined.get(stream, set()))
        for name in missing if len(missing) > keyed.erased else ():
            yield f"{stream}: {name!r} was accepted and is nowhere"


def _doubles(stream: str, keyed: Keyed, rows: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Yield a line for each key that stands for one row, and has more.

    Args:
        stream: its name.
        keyed: how its rows are told apart.
        rows: key and event time in microseconds of each row whose key recurs.
    """
    times_of: dict[str, list[int]] = {}
    for name, time_us in rows:
        times_of.setdefault(name, []).append(time_us)
    for name, times_us in times_of.items():
        gaps_us = np.diff(np.sort(np.array(times_us, dtype=np.int64)))
        close = int(np.count_nonzero(gaps_us <= keyed.dedupe_us))
        if close:
            yield f"{stream}: {name!r} is {close + 1} times in the lake"


@dataclass(frozen=True, slots=True)
class Pin:
    """What was announced of a version of a stream's table."""

    stream: str
    version: int
    rows: int
    content: str


def pinned(lake: Lake, pins: Sequence[Pin]) -> Iterator[str]:
    """Yield a line for each version that does not hold what was announced of it."""
    for pin in pins:
        table = lake.table(pin.stream, pin.version)
        found = EMPTY
        for batch in table.to_pyarrow_dataset().to_batches() if table is not None else ():
            found += Content.of_rows(batch.to_pylist())
        if (found.rows, found.digest) != (pin.rows, pin.content):
            yield (
                f"{pin.stream} at version {pin.version}: announced {pin.rows} rows of content "
                f"{pin.content}; found {found.rows} of {found.digest}"
            )


def predictions(lake: Lake, models: Sequence[str], sender: Sender | None) -> Iterator[str]:
    """Yield a line for each answer that was not logged once as its version's."""
    for model in models:
        table = lake.read(f"predictions-{model}", ["request_id", "row", "role", "version"])
        logged: Counter[tuple[str, int]] = Counter()
        live: dict[str, tuple[int, int]] = {}
        if table is not None:
            columns = (table.column(name).to_pylist() for name in table.column_names)
            by_name = dict(zip(table.column_names, columns, strict=True))
            for request_id, row, role, version in zip(
                by_name["request_id"],
                by_name["row"],
                by_name["role"],
                by_name["version"],
                strict=True,
            ):
                if role == "live":
                    logged[request_id, row] += 1
                    live[request_id] = (version, live.get(request_id, (0, 0))[1] + 1)
        for (request_id, row), count in logged.items():
            if count > 1:
                yield f"{model}: prediction {request_id}-{row} is {count} times in the lake"
        for request_id, said in (sender.answers.get(model, {}) if sender else {}).items():
            if live.get(request_id) != said:
                yield (
                    f"{model}: request {request_id} was answered by version, rows {said}; "
                    f"logged are {live.get(request_id)}"
                )


def offsets(
    lake: Lake,
    tables: Sequence[str],
    aside: Mapping[str, Mapping[Place, Ints]],
    reach: Mapping[Place, Reach],
) -> Iterator[str]:
    """Yield a line for each offset that has no place, or two.

    Args:
        lake: the tables.
        tables: their names.
        aside: quarantine, duplicate, marker and erased to the numbers of the rows each holds.
        reach: how far each partition goes.
    """
    places: dict[Place, list[Ints]] = {place: [] for place in reach}
    for kinds in aside.values():
        for place, held in kinds.items():
            places.setdefault(place, []).append(held)
    for name in tables:
        for place, held in _held(lake, name):
            places.setdefault(place, []).append(held)
    for place, parts in places.items():
        every = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
        ends = reach.get(place, Reach(0, 0))
        where = f"{place[0]}/{place[1]}"
        for number in every[1:][np.diff(every) == 0]:
            offset, row = divmod(int(number), ROWS)
            yield f"{where}/{offset}, row {row}: it has two places"
        expected = np.arange(ends.begin, ends.end, dtype=np.int64)
        for offset in np.setdiff1d(expected, every // ROWS):
            yield f"{where}/{offset}: it is in no table, quarantine, duplicate or marker"


def _held(lake: Lake, name: str) -> Iterator[tuple[Place, Ints]]:
    """Yield the numbers of a table's rows, by topic and partition.

    A table of predictions does not number its rows: there a record has one place.
    """
    table = lake.read(name, ["_topic", "_partition", "_offset", "_row"])
    if table is None or not table.num_rows:
        return
    if "_row" in table.column_names:
        rows = table.column("_row").fill_null(0).cast(pa.int64()).to_numpy()
    else:
        table = table.group_by(table.column_names).aggregate([])
        rows = np.zeros(table.num_rows, dtype=np.int64)
    topics = table.column("_topic").to_pylist()
    partitions = table.column("_partition").to_numpy()
    found: Ints = table.column("_offset").to_numpy() * ROWS + rows
    for topic in set(topics):
        of_topic = np.array([each == topic for each in topics])
        for partition in np.unique(partitions[of_topic]):
            yield (topic, int(partition)), found[of_topic & (partitions == partition)]
