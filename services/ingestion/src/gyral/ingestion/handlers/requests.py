"""What happens to a request with rows or a marker, once it is known who sent it."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import asyncpg

from gyral.contracts.data import StreamDeclared
from gyral.ingestion.domain import RefusedRowError, door_of, time_of
from gyral.ingestion.engine.bodies import Limits, Task, values_of
from gyral.ingestion.engine.cloaking import Cloak
from gyral.ingestion.engine.forms import MediaType
from gyral.ingestion.engine.log import Mark, Submission
from gyral.ingestion.engine.metrics import Metrics
from gyral.ingestion.handlers.outlet import RETRY_AFTER_S, Outlet, kafka_away
from gyral.ingestion.store.submissions import Claim, Submissions
from gyral.kit.db import is_infrastructure
from gyral.kit.personal import PersonalKeys
from gyral.kit.projection import Projection
from gyral.kit.refusals import Refusal
from gyral.kit.telemetry import current_traceparent, get_log

_NAMESPACE = uuid.UUID("1d4a0a5c-5f9b-5d0e-8d5e-3f2b7f0c9a41")
_INLINE_BYTES = 1 << 19
"""Longest body that is read on the event loop: it takes some milliseconds."""
log = get_log()


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller said beside the rows."""

    stream: str
    key_id: str
    form: MediaType
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Read:
    """A request whose rows were checked and grouped; nothing of it is kept yet."""

    submission: Submission
    form: MediaType
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Handlers:
    """Ingestion's reactions, with everything they need in plain sight."""

    streams: Projection[StreamDeclared]
    outlet: Outlet
    submissions: Submissions
    limits: Limits
    future: timedelta
    personal: PersonalKeys
    metrics: Metrics
    now: Callable[[], datetime]
    new_id: Callable[[], str]

    async def read(self, request: Request, body: bytes) -> Read:
        """Return the rows of a body, all of them good enough for the door.

        Raises:
            Refusal: 4xx, naming what is wrong; 503 when Kafka never answered.
        """
        declared = await self._declared(request.stream)
        spec = declared.spec.spec
        partitions = await self.outlet.partitions()
        door = door_of(spec, self.now(), future=self.future)
        cloak = Cloak.of(declared, self.personal)
        task = Task(request.form, door, spec.fields, self.limits, partitions, cloak)
        self.metrics.bytes.add(len(body), {"form": request.form.value})

        def work() -> Read:
            values = values_of(body, task)
            claim = _claim_of(request, body)
            if claim is not None and cloak is not None:
                claim = replace(claim, sha256=self.personal.claim(claim.sha256))
            seed = self.new_id() if claim is None else _seed_of(claim)
            traceparent = current_traceparent()
            submission = Submission(
                request.stream, declared.generation, seed, values, traceparent
            )
            return Read(submission, request.form, claim)

        if len(body) > _INLINE_BYTES or request.form is MediaType.PARQUET:
            return await asyncio.to_thread(work)
        return work()

    async def take(self, read: Read) -> Submission:
        """Return what was taken: all of the request's rows, safe.

        Raises:
            Refusal: it was sent before otherwise (409), or is not known to be safe (503).
        """
        submission, claim = read.submission, read.claim
        if claim is None:
            await self.outlet.rows(submission)
        elif await self._is_first(claim):
            await self._take_once(claim, submission)
        self.metrics.rows.add(
            submission.rows, {"stream": submission.stream, "form": read.form.value}
        )
        return submission

    async def advance(self, stream: str, event_time: str) -> datetime:
        """Return the time that stands behind all that was sent before; raises like `take`."""
        await self._declared(stream)
        try:
            time = time_of("event_time", event_time, latest=self.now() + self.future)
        except RefusedRowError as refused:
            raise Refusal(422, "invalid", str(refused), field=refused.field) from refused
        await self.outlet.mark(Mark(stream, time, self.new_id(), current_traceparent()))
        return time

    async def _declared(self, stream: str) -> StreamDeclared:
        """Find the stream, looking once more when a spec may have come just now."""
        found = self.streams.get(stream)
        if found is None:
            try:
                await self.streams.refresh(timeout_s=5)
            except TimeoutError as error:
                raise kafka_away(error) from error
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

    async def _take_once(self, claim: Claim, submission: Submission) -> None:
        try:
            await self.outlet.rows(submission)
        except BaseException:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.shield(self.submissions.released(claim))
            raise
        try:
            await self.submissions.answered(claim, submission.rows)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            # Kafka has the rows, so 202 is the truth; sent again, they have the same ids.
            log.warning("submission.answer_not_remembered", error=type(error).__name__)


def _claim_of(request: Request, body: bytes) -> Claim | None:
    if request.idempotency_key is None:
        return None
    digest = hashlib.sha256(f"{request.stream}\n{request.form}\n".encode())
    digest.update(body)
    return Claim(request.key_id, request.idempotency_key, digest.digest())


def _seed_of(claim: Claim) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{claim.key_id}/{claim.idempotency_key}"))
