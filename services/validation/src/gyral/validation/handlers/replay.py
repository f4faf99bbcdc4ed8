"""Refused rows, judged again when somebody asks for it."""

from dataclasses import dataclass

from gyral.kit.outbox import Message
from gyral.kit.replays import Begun, ReplayOrder
from gyral.kit.tx import Begin
from gyral.validation.domain.refusals import Reason
from gyral.validation.engine.refusing import ORIGIN
from gyral.validation.store.quarantine import Chosen, Original, QuarantineTx

MOST = 1000


@dataclass(frozen=True, slots=True)
class Replay:
    """Puts rows of the quarantine back on their topic."""

    begin: Begin[QuarantineTx]

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
            taken = await tx.take(chosen, order, limit=MOST)
            for one in taken:
                await tx.forward(_again(one))
            if taken:
                await tx.note_rows(order, taken)
        return begun, [one.id for one in taken]


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
