"""What happens to a request with rows or a marker, once it is known who sent it."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from gyral.contracts.data import StreamDeclared
from gyral.ingestion.domain import RefusedRowError, check_time, door_of
from gyral.ingestion.engine.log import LogAwayError, RecordLog, Submission
from gyral.ingestion.engine.rows import MediaType, read_rows
from gyral.ingestion.store import Claim, Submissions
from gyral.kit.db import is_infrastructure
from gyral.kit.projection import Projection
from gyral.kit.refusals import Refusal
from gyral.kit.telemetry import get_log

RETRY_AFTER_S = 2
_NAMESPACE = uuid.UUID("1d4a0a5c-5f9b-5d0e-8d5e-3f2b7f0c9a41")
_INLINE_BYTES = 1 << 16
log = get_log()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may hold, and how far ahead its times may be."""

    max_rows: int
    future: timedelta


@dataclass(frozen=True, slots=True)
class Request:
    """Rows as a caller sent them."""

    stream: str
    key_id: str
    form: MediaType
    body: bytes
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Handlers:
    """Ingestion's reactions, with everything they need in plain sight."""

    streams: Projection[StreamDeclared]
    log: RecordLog
    submissions: Submissions
    limits: Limits
    now: Callable[[], datetime]
    new_id: Callable[[], str]

    async def submit(self, request: Request) -> Submission:
        """Return what was taken: all of the request's rows, acknowledged by Kafka.

        Raises:
            Refusal: nothing was taken (4xx), or it is not known to be (503, to be sent again).
        """
        declared = await self._declared(request.stream)
        door = door_of(declared.spec.spec, self.now(), future=self.limits.future)
        read = (request.body, request.form, door)
        if len(request.body) > _INLINE_BYTES:
            rows = await asyncio.to_thread(read_rows, *read, max_rows=self.limits.max_rows)
        else:
            rows = read_rows(*read, max_rows=self.limits.max_rows)
        claim = _claim_of(request)
        seed = self.new_id() if claim is None else _seed_of(claim)
        submission = Submission(request.stream, declared.generation, seed, rows)
        if claim is None:
            await self._append(submission)
        elif await self._is_first(claim):
            await self._append_once(claim, submission)
        return submission

    async def advance(self, stream: str, event_time: str) -> datetime:
        """Return the time that stands behind all that was sent before; raises like `submit`."""
        await self._declared(stream)
        try:
            time = check_time("event_time", event_time, latest=self.now() + self.limits.future)
        except RefusedRowError as refused:
            raise Refusal(422, "invalid", str(refused), field=refused.field) from refused
        try:
            await self.log.mark(stream, time)
        except LogAwayError as away:
            raise _kafka_away(away) from away
        return time

    async def _declared(self, stream: str) -> StreamDeclared:
        """Find the stream, looking once more when a spec may have come just now."""
        found = self.streams.get(stream)
        if found is None:
            try:
                await self.streams.refresh(timeout_s=5)
            except TimeoutError as error:
                raise _kafka_away(error) from error
            found = self.streams.get(stream)
        if found is None:
            message = "stream: expected a declared one; found none of this name. Apply its spec"
            raise Refusal(404, "unknown_stream", message, field="stream")
        return found

    async def _is_first(self, claim: Claim) -> bool:
        try:
            known = await self.submissions.claim(claim)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            message = (
                "the memory of Idempotency-Keys is away; nothing was taken. Send the same again"
            )
            raise Refusal(503, "unavailable", message, retry_after_s=RETRY_AFTER_S) from error
        if known is None:
            return True
        field = "Idempotency-Key"
        if not known.same_body:
            message = (
                f"{field}: expected the body it first came with; found another. Use a new key"
            )
            raise Refusal(409, "idempotency_conflict", message, field=field)
        if known.accepted is None:
            message = f"{field}: the same request is being worked on; ask again"
            raise Refusal(409, "in_progress", message, field=field, retry_after_s=RETRY_AFTER_S)
        return False

    async def _append_once(self, claim: Claim, submission: Submission) -> None:
        try:
            await self._append(submission)
        except BaseException:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.shield(self.submissions.released(claim))
            raise
        try:
            await self.submissions.answered(claim, len(submission.rows))
        except Exception as error:
            if not is_infrastructure(error):
                raise
            # Kafka has the rows, so 202 is the truth; sent again, they have the same ids.
            log.warning("submission.answer_not_remembered", error=type(error).__name__)

    async def _append(self, submission: Submission) -> None:
        try:
            await self.log.append(submission)
        except LogAwayError as away:
            raise _kafka_away(away) from away


def _claim_of(request: Request) -> Claim | None:
    if request.idempotency_key is None:
        return None
    digest = hashlib.sha256(
        f"{request.stream}\n{request.form}\n".encode() + request.body
    ).digest()
    return Claim(request.key_id, request.idempotency_key, digest)


def _seed_of(claim: Claim) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{claim.key_id}/{claim.idempotency_key}"))


def _kafka_away(error: Exception) -> Refusal:
    message = (
        f"Kafka did not acknowledge in time ({error}); send the same again, with the same key"
    )
    return Refusal(503, "unavailable", message, retry_after_s=RETRY_AFTER_S)
