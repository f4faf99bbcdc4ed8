"""Which tables a batch speaks of, and which offsets of it they may be given rows of."""

from collections.abc import Iterable, Mapping, Sequence

from gyral.validation.domain.accounting import Quarantined
from gyral.validation.engine.preparing import Part
from gyral.validation.engine.reading import Span
from gyral.validation.engine.schema import Schema
from gyral.validation.engine.schemas import Schemas


def spans_by_stream(
    streams: Mapping[str, Part], refused: Iterable[Quarantined], schemas: Schemas
) -> Mapping[str, Sequence[Span]]:
    """Return, for each declared stream of a batch, what its records cover, refused or not.

    A stream that is not declared has no table, whatever a record calls it.
    """
    spans = {name: list(part.whole.spans()) for name, part in streams.items()}
    for row in refused:
        if isinstance(schemas.get(row.stream), Schema):
            at = row.place
            spans.setdefault(row.stream, []).append(
                Span(at.topic, at.partition, at.offset, at.offset)
            )
    return {name: list(_joined(parts)) for name, parts in spans.items()}


def _joined(spans: Iterable[Span]) -> Iterable[Span]:
    """Yield one span a partition."""
    by_app: dict[str, Span] = {}
    for span in spans:
        known = by_app.setdefault(span.app, span)
        first, last = min(known.first, span.first), max(known.last, span.last)
        by_app[span.app] = Span(span.topic, span.partition, first, last)
    return by_app.values()
