"""Which label speaks of which prediction, within one block."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gyral.modelling.columns import Bools, Floats, Ints
from gyral.modelling.labels import LabelError, LabelRule


@dataclass(frozen=True, slots=True)
class Predictions:
    """Live predictions of one block in order of time, as columns of n rows."""

    versions: Ints
    entities: Sequence[str | None]
    times_us: Ints
    probabilities: Floats


@dataclass(frozen=True, slots=True)
class Label:
    """One revision of one label row; `number` or `text` holds the deciding field."""

    entity: str
    key: str
    revision: int
    time_us: int
    number: float | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Joined:
    """What is known of each prediction of a block, shape (n,)."""

    positive: Bools
    labelled: Bools
    superseded: Bools
    """A later prediction of the same entity has the label."""


def join(predictions: Predictions, labels: Iterable[Label], rule: LabelRule) -> Joined:
    """Give each label to the latest prediction of its entity at or before the label's time.

    Of several revisions of a label the highest counts; of several labels of one prediction the
    earliest. Whatever order the labels come in, the outcome is the same.
    """
    count = len(predictions.entities)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, entity in enumerate(predictions.entities):
        if entity is not None:
            rows[entity].append(row)
    times = predictions.times_us.tolist()
    chosen: dict[int, Label] = {}
    superseded = np.zeros(count, dtype=np.bool_)
    for label in _latest(labels):
        own = rows.get(label.entity, [])
        before = bisect_right(own, label.time_us, key=times.__getitem__)
        if before:
            chosen.setdefault(own[before - 1], label)
            superseded[own[: before - 1]] = True
    return _joined(count, chosen, superseded, rule)


def _latest(labels: Iterable[Label]) -> list[Label]:
    """Keep the highest revision of each label, in order of time."""
    known: dict[tuple[str, str], Label] = {}
    for label in labels:
        before = known.get((label.entity, label.key))
        if before is None or before.revision < label.revision:
            known[label.entity, label.key] = label
    return sorted(known.values(), key=lambda label: (label.time_us, label.key))


def _joined(
    count: int, chosen: Mapping[int, Label], superseded: Bools, rule: LabelRule
) -> Joined:
    at = np.fromiter(chosen, np.int64, len(chosen))
    positive, labelled = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    if len(at):
        try:
            found = rule.evaluate({rule.field: _cells(chosen.values(), rule)})
        except LabelError:
            # Labels of another type than the rule compares are no labels to this model.
            return Joined(positive, labelled, superseded)
        positive[at], labelled[at] = found.positive, found.known
    return Joined(positive, labelled, superseded & ~labelled)


def _cells(
    labels: Iterable[Label], rule: LabelRule
) -> "Floats | np.typing.NDArray[np.object_]":
    if isinstance(rule.literal, str):
        return np.array([label.text for label in labels], dtype=np.object_)
    return np.array(
        [np.nan if label.number is None else label.number for label in labels], np.float64
    )
