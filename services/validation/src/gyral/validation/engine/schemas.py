"""The compiled declarations of all streams, each compiled once a generation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import msgspec

from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.stream import StreamBody
from gyral.kit.cloudevents import Record
from gyral.kit.personal import PersonalKeys
from gyral.kit.projection import Projection
from gyral.validation.domain.refusals import Reason, Violation
from gyral.validation.engine.schema import Schema, UnusableSchemaError, envelope_of

Decode = Callable[[bytes], msgspec.Struct]
_NO_STREAM = envelope_of("", msgspec.Raw)
"""No stream has an empty name: it keeps the union from being empty."""


@dataclass(slots=True)
class Schemas:
    """What is declared now, ready to be applied."""

    streams: Projection[StreamDeclared]
    keys: PersonalKeys
    """Records of streams with personal fields are sealed under them."""
    _compiled: dict[str, tuple[int, Schema | Violation]] = field(default_factory=dict)
    _joint: tuple[frozenset[type[msgspec.Struct]], Decode] | None = None

    def get(self, stream: str) -> Schema | Violation | None:
        """Return a stream's schema, why it has none, or None when it is not declared."""
        declared = self.streams.get(stream)
        if declared is None:
            return None
        known = self._compiled.get(stream)
        if known is None or known[0] != declared.generation:
            known = self._compiled[stream] = (declared.generation, _compile(declared))
        return known[1]

    def names(self) -> list[str]:
        """Return the declared streams' names."""
        return sorted(declared.name for declared in self.streams.values())

    def declared(self) -> Mapping[str, Schema | Violation]:
        """Return what is declared now: each stream's schema, or why it has none."""
        found = {name: self.get(name) for name in self.names()}
        return {name: schema for name, schema in found.items() if schema is not None}

    def usable(self) -> list[Schema]:
        """Return every schema that can be applied."""
        found = (self.get(name) for name in self.names())
        return [schema for schema in found if isinstance(schema, Schema)]

    def personal(self, stream: str) -> StreamBody | None:
        """Return the declaration of a stream with personal fields, usable or not."""
        declared = self.streams.get(stream)
        body = None if declared is None else declared.spec.spec
        return None if body is None or body.subject is None else body

    def of_people(self) -> list[str]:
        """Return the names of the streams with personal fields."""
        return [name for name in self.names() if self.personal(name) is not None]

    def unvouched(self, stream: str, record: Record) -> Violation | None:
        """Return the refusal of a record with personal fields that did not pass the door."""
        if self.personal(stream) is None:
            return None
        if self.keys.is_sealed(record.headers, record.value or b""):
            return None
        detail = "record: expected one that came through ingestion; found none of its seal"
        return Violation(Reason.NOT_PSEUDONYMISED, detail)

    def decoder(self) -> tuple[Decode, dict[type[msgspec.Struct], Schema]]:
        """Return what decodes a record of any stream at once, and whose each envelope is.

        Any stream without personal fields: of others it must be known first where it was.
        """
        schemas = {schema.envelope: schema for schema in self.usable() if not schema.subject}
        envelopes = frozenset(schemas)
        if self._joint is None or self._joint[0] != envelopes:
            union = reduce(or_, envelopes, _NO_STREAM)
            self._joint = (envelopes, msgspec.json.Decoder(union).decode)
        return self._joint[1], schemas

    async def refresh(self) -> None:
        """Return once everything declared until now is known."""
        await self.streams.refresh()


def _compile(declared: StreamDeclared) -> Schema | Violation:
    try:
        return Schema(declared)
    except UnusableSchemaError as error:
        return Violation(Reason.UNUSABLE_SCHEMA, str(error)[:500])
