"""A stream as it is declared: which columns it takes, and what each holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from gyral.client.answers import Stream
from gyral.client.calls import Platform
from gyral.client.errors import ClientError
from gyral.contracts.specs.stream import FieldType, StreamBody, StreamSpec


@dataclass(frozen=True, slots=True)
class Declared:
    """One generation of a stream."""

    name: str
    generation: int
    body: StreamBody

    @classmethod
    async def ask(cls, platform: Platform, name: str) -> Self:
        """Return the stream as the registry knows it."""
        path = f"/v1/streams/{quote(name, safe='')}"
        found = await platform["registry"].get(path, Stream)
        spec = StreamSpec.model_validate_json(bytes(found.spec))
        return cls(name, found.generation, spec.spec)

    def fields_of(self, columns: Sequence[str], where: str) -> dict[str, FieldType]:
        """Return the fields that these columns fill.

        Raises:
            ClientError: a required one is missing.
        """
        for name, field in self.body.fields.items():
            if name not in columns and not field.nullable:
                raise ClientError(
                    f"{where}: expected a column {name!r} for stream {self.name}; found "
                    f"{', '.join(columns)[:300]}: rename one, or declare the field nullable"
                )
        return {name: field.type for name, field in self.body.fields.items() if name in columns}
