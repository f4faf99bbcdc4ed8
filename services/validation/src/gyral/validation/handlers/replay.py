"""Refused rows, judged again when somebody asks for it."""

from dataclasses import dataclass, replace

from gyral.kit.outbox import Message
from gyral.kit.replays import Begun, ReplayOrder
from gyral.kit.tx import Begin
from gyral.validation.domain.accounting import Protection
from gyral.validation.domain.refusals import Reason
from gyral.validation.engine.parking import Parking
from gyral.validation.engine.refusing import ORIGIN
from gyral.validation.store.quarantine import Chosen, Original, QuarantineTx

MOST = 1000


@dataclass(frozen=True, slots=True)
class Replay:
    """Puts rows of the quarantine back on their topic."""

    begin: Begin[QuarantineTx]
    parking: Parking

    async def run(self, chosen: Chosen, order: ReplayOrder) -> tuple[Begun, list[int]]:
        """Put refused rows back; return when it began and their ids, as the audit says.

        In one transaction a row is counted as replayed and its record put into the outbox.
        Kafka may come to hold that record twice; the second copy is a duplicate of the first,
        or refused like it under the same origin, and then counted as replayed with it.
        """
        async with self.begin() as tx:
            begun = await tx.begin_replay(order)
            if begun.items is not None:
                return begun, [int(id_) for id_ in begun.items]
            of_people = self.parking.schemas.of_people()
            taken = await tx.take(chosen, order, limit=MOST, of_people=of_people)
            for one in taken:
                await tx.forward(self._again(one))
            if taken:
                await tx.note_rows(order, taken)
        return begun, [one.id for one in taken]

    def _again(self, one: Original) -> Message:
        """Return a row as it came; what the door pseudonymised is sealed as what it is now."""
        if one.protection is None:
            return _again(one)
        plain = self.parking.plain(one.stream, one.place, one.value)
        headers = plain.headers
        if one.protection is Protection.PSEUDONYMISED:
            headers = self.parking.sealed(headers, plain.value)
        return _again(replace(one, key=plain.key, value=plain.value, headers=headers))


def _again(one: Original) -> Message:
    """Return a row as it came, to the partition it came from, and which row it was.

    What lay in another partition than its key's goes to its key's.
    """
    astray = one.reason == Reason.WRONG_PARTITION
    headers = [(name, value) for name, value in one.headers if name != ORIGIN]
    return Message(
        event_id=f"quarantine/{one.id}",
        topic=one.place.topic,
        key=one.key,
        headers=[*headers, (ORIGIN, str(one.id).encode())],
        value=one.value,
        partition=None if astray else one.place.partition,
    )
