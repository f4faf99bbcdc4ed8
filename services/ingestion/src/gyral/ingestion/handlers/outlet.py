"""Where accepted rows and markers go: to Kafka, or to the spool while Kafka is away."""

from collections.abc import Awaitable, Callable

import msgspec

from gyral.ingestion.engine.log import LogAwayError, Mark, RecordLog, Submission
from gyral.ingestion.store.spool import Kind, Spool, SpoolFullError
from gyral.kit.refusals import Refusal
from gyral.kit.segments import Entry

RETRY_AFTER_S = 2
_encode = msgspec.msgpack.Encoder().encode
_rows_of = msgspec.msgpack.Decoder(Submission).decode
_mark_of = msgspec.msgpack.Decoder(Mark).decode


class Outlet:
    """Keeps what is accepted where it survives: in Kafka, or refuses."""

    def __init__(self, log: RecordLog) -> None:
        self.log = log

    async def partitions(self) -> int:
        """Return how many partitions rows are spread over.

        Raises:
            Refusal: 503, Kafka never said.
        """
        try:
            return await self.log.partitions()
        except LogAwayError as away:
            raise kafka_away(away) from away

    async def rows(self, submission: Submission) -> None:
        """Return once the rows are safe.

        Raises:
            Refusal: 503, it is not known that they are; to be sent again.
        """
        try:
            await self.log.append(submission)
        except LogAwayError as away:
            raise kafka_away(away) from away

    async def mark(self, mark: Mark) -> None:
        """Return once the marker is safe, behind all that was accepted; raises like `rows`."""
        try:
            await self.log.mark(mark)
        except LogAwayError as away:
            raise kafka_away(away) from away


class SpoolingOutlet(Outlet):
    """Keeps what is accepted in Kafka, or in the spool; nothing overtakes what is spooled."""

    def __init__(self, log: RecordLog, spool: Spool) -> None:
        super().__init__(log)
        self._spool = spool

    async def rows(self, submission: Submission) -> None:
        """Return once the rows are safe; raises as `Outlet` does, when the spool is full."""
        await self._keep(
            Kind.ROWS, submission.seed, submission, lambda: self.log.append(submission)
        )

    async def mark(self, mark: Mark) -> None:
        """Return once the marker is safe, behind all that was accepted; raises like `rows`."""
        await self._keep(Kind.MARKER, mark.id, mark, lambda: self.log.mark(mark))

    async def forward(self, entry: Entry) -> None:
        """Bring a spooled entry to Kafka.

        Raises:
            LogAwayError: it is still away.
        """
        if entry.kind == Kind.ROWS:
            await self.log.append(_rows_of(entry.payload))
        else:
            await self.log.mark(_mark_of(entry.payload))

    async def _keep(
        self,
        kind: Kind,
        id_: str,
        what: Submission | Mark,
        append: Callable[[], Awaitable[None]],
    ) -> None:
        if self._spool.pending_bytes == 0:
            try:
                await append()
            except LogAwayError:
                pass  # some of it may be there: the spool says it again, validation drops it
            else:
                return
        try:
            await self._spool.append(kind, id_, _encode(what))
        except SpoolFullError as full:
            raise _spool_full(full) from full


def kafka_away(error: Exception) -> Refusal:
    """Return the refusal that asks for the same again."""
    message = (
        f"Kafka did not acknowledge in time ({error}); send the same again, with the same key"
    )
    return Refusal(503, "unavailable", message, retry_after_s=RETRY_AFTER_S)


def _spool_full(error: Exception) -> Refusal:
    message = f"Kafka is away and no more can be kept ({error}); send the same again, later"
    return Refusal(503, "unavailable", message, retry_after_s=RETRY_AFTER_S)
