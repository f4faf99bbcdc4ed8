"""How refused rows are kept that may name somebody: encrypted, beside whose they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from gyral.kit.personal import SEAL, PersonalKeys
from gyral.validation.domain.accounting import Place, Protection, Quarantined
from gyral.validation.engine.refusing import ORIGIN
from gyral.validation.engine.schema import BAD, text_in
from gyral.validation.engine.schemas import Schemas

Headers = tuple[tuple[str, bytes], ...]


class Packed(NamedTuple):
    """A record's key, headers and value, as one text to encrypt."""

    key: bytes | None
    headers: Headers
    value: bytes


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Packed).decode


class _Values(msgspec.Struct):
    """A submitted record as far as it says whose it is."""

    values: msgspec.Raw


_values_of = msgspec.json.Decoder(_Values).decode


@dataclass(frozen=True, slots=True)
class Parking:
    """Encrypts what is parked of streams with personal fields, and what may be of one."""

    schemas: Schemas
    keys: PersonalKeys

    def parked(self, refused: Sequence[Quarantined]) -> Sequence[Quarantined]:
        """Return refused rows as they may be kept.

        What names no declared stream is encrypted too, where any stream has personal fields.
        """
        of_people = set(self.schemas.of_people()) if refused else ()
        if not of_people:
            return refused
        known = set(self.schemas.names())
        return [
            self._encrypted(row) if row.stream in of_people or row.stream not in known else row
            for row in refused
        ]

    def plain(self, stream: str, place: Place, held: bytes) -> Packed:
        """Return what was parked.

        Raises:
            UnreadableError: it was encrypted under another secret, or changed since.
        """
        return _unpack(self.keys.decrypt(stream, _at(place), held))

    def sealed(self, headers: Headers, value: bytes) -> Headers:
        """Return the headers of a pseudonymised record that goes back on its topic."""
        others = tuple((name, text) for name, text in headers if name != SEAL)
        return (*others, (SEAL, self.keys.seal(others, value)))

    def _encrypted(self, row: Quarantined) -> Quarantined:
        packed = _pack(Packed(row.kafka_key, row.headers, row.value))
        return replace(
            row,
            kafka_key=None,
            value=self.keys.encrypt(row.stream, _at(row.place), packed),
            headers=tuple((name, text) for name, text in row.headers if name == ORIGIN),
            record_key=row.record_key if row.vouched else "",
            protection=Protection.PSEUDONYMISED if row.vouched else Protection.CLEAR,
            subject=self._subject(row),
        )

    def _subject(self, row: Quarantined) -> str | None:
        """Return whose a row is, or None where it does not say."""
        body = self.schemas.personal(row.stream)
        if body is None or body.subject is None:
            return None
        try:
            said = text_in(bytes(_values_of(row.value).values), body.subject)
        except BAD:
            return None
        if said is None or row.vouched:
            return said
        return self.keys.pseudonym(said)


def _at(place: Place) -> str:
    return f"{place.topic}/{place.partition}/{place.offset}/{place.row}"
