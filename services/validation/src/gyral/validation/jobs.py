"""What validation does by the clock: idle partitions, untold versions, forgetting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gyral.contracts.data import RecordSubmitted
from gyral.contracts.specs.stream import Clock
from gyral.contracts.training import RunStarted
from gyral.contracts.versions import ModelDeclared
from gyral.kit.changes import Changes
from gyral.kit.projection import Projection
from gyral.kit.telemetry import get_log
from gyral.kit.tx import Begin
from gyral.validation.domain.retention import kept_from_us
from gyral.validation.domain.standing import Standing
from gyral.validation.domain.watermark import PartitionTime
from gyral.validation.engine.ends import Ends
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.ledger import Ledger
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.schema import Schema
from gyral.validation.engine.schemas import Schemas
from gyral.validation.handlers.metrics import Metrics
from gyral.validation.store.lookups import Lookups
from gyral.validation.store.memory import Memory
from gyral.validation.store.pins import Pins
from gyral.validation.store.progress import Step, advance
from gyral.validation.store.sinks import SinkTx
from gyral.validation.store.watching import StaleDeclarationError

TOPIC = RecordSubmitted.topic.name
log = get_log()
PREDICTIONS_KEPT_H = 192.0
"""Longer than Kafka keeps them: none can come again after that."""
DUPLICATES_KEPT_H = 744.0
"""Longer than Kafka keeps records: only what it holds needs a place."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """The periodic work, each call complete in itself."""

    begin: Begin[SinkTx]
    schemas: Schemas
    memory: Memory
    lookups: Lookups
    lake: Lake
    ledger: Ledger
    outlet: Outlet
    ends: Ends
    changes: Changes
    metrics: Metrics
    sink: str
    now_us: Callable[[], int]
    models: Projection[ModelDeclared]
    runs: Projection[RunStarted]
    pins: Pins
    vacuum_after_h: float

    async def advance_idle(self) -> None:
        """Let time pass in partitions with nothing unread, for streams on the wall clock."""
        streams = [
            schema for schema in self.schemas.usable() if schema.time.clock is Clock.WALL
        ]
        if not streams:
            return
        # Asked first: what is written after this moment is later than it.
        now_us = self.now_us()
        partitions = await self.outlet.partitions(TOPIC)
        ends = await self.ends.of(TOPIC, partitions)
        stored = await self.lookups.stored_offsets(self.sink, TOPIC)
        idle = {
            partition: PartitionTime(idle_us=now_us)
            for partition, end in ends.items()
            if end <= stored.get(partition, 0)
        }
        if not idle:
            return
        await self._advance(
            [Step(schema.time, schema.expected, idle) for schema in streams], partitions
        )

    async def announce_missing(self) -> None:
        """Tell of table versions that were committed and never announced."""
        partitions = await self.outlet.partitions(TOPIC)
        for schema in self.schemas.usable():
            standing = await self.ledger.latest(schema.stream)
            if standing is not None:
                await self._announce(schema, standing, partitions)
        self.changes.notify()

    async def retire(self) -> None:
        """Drop the rows that streams keep no longer; versions that had them still do."""
        partitions = await self.outlet.partitions(TOPIC)
        for schema in self.schemas.usable():
            if schema.retention_us is None:
                continue
            reached = await self.lookups.watermark(schema.stream)
            before_us = kept_from_us(reached, schema.retention_us)
            if before_us is None:
                continue
            await self._retire(schema, before_us, partitions)
        self.changes.notify()

    async def _retire(self, schema: Schema, before_us: int, partitions: Sequence[int]) -> None:
        try:
            standing = await self.ledger.retire(schema.stream, schema.event_time, before_us)
        except LakeMovedError:
            log.info("lake.retirement_overtaken", table=schema.stream)
            return
        if standing is not None:
            log.info("lake.rows_retired", table=schema.stream, version=standing.version)
            await self._announce(schema, standing, partitions)

    async def _announce(
        self, schema: Schema, standing: Standing, partitions: Sequence[int]
    ) -> None:
        step = Step(schema.time, schema.expected, {}, standing=standing)
        await self._advance([step], partitions)

    async def _advance(self, steps: Sequence[Step], partitions: Sequence[int]) -> None:
        """Apply steps, again while more blocks are over than are judged at once."""
        unfinished = True
        while unfinished:
            try:
                async with self.begin() as tx:
                    reports = await advance(
                        tx, steps, partitions=partitions, lake_uri=self.lake.root
                    )
            except StaleDeclarationError:
                await self.schemas.refresh()  # the next call goes by the newer declaration
                return
            self.metrics.tell(reports)
            unfinished = any(report.unfinished for report in reports)

    async def vacuum(self) -> None:
        """Remove files that no version needs but old ones which nothing was trained on."""
        now = datetime.fromtimestamp(self.now_us() / 1e6, UTC)
        before = now - timedelta(hours=self.vacuum_after_h)
        # Whatever runs have begun with is known now; what begins later begins with what is new.
        await self.runs.refresh()
        streams = [schema.stream for schema in self.schemas.usable()]
        predicted = [f"predictions-{model.name}" for model in self.models.values()]
        for table in [*streams, *predicted]:
            pinned = await self.pins.of(table, before)
            try:
                swept = await self.lake.vacuum(table, pinned, before)
            except LakeMovedError:
                log.info("lake.vacuum_overtaken", table=table)
                continue
            except ConnectionError as error:
                # The store is away, or a version that must stay cannot be read: touch nothing.
                log.warning("lake.vacuum_failed", table=table, error=str(error)[:500])
                continue
            if swept.files:
                log.info("lake.vacuumed", table=table, files=swept.files)

    async def forget(self) -> None:
        """Drop identities that no row can meet any more."""
        for schema in self.schemas.usable():
            await self.memory.forget(schema.stream, schema.dedupe_us)
        await self.lookups.forget_predictions(PREDICTIONS_KEPT_H)
        await self.lookups.forget_duplicates(DUPLICATES_KEPT_H)
