"""How far the data are, and which models wait for their first training."""

from datetime import datetime, timedelta

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.training import Cause, RunRequested
from gyral.registry.domain.bootstrap import Asked, Data, Rules, bootstrap_as_of
from gyral.registry.store.specs import SpecTx
from gyral.registry.store.versions import VersionTx


class BootstrapTx(SpecTx, VersionTx):
    """A transaction that knows when a model's data suffice."""

    async def data(self, stream: str) -> Data | None:
        """Return how far a stream's table has come, or None before its first commit."""
        row = await self.conn.fetchrow(
            "SELECT rows, watermark FROM dataset WHERE stream = $1", stream
        )
        return Data(row["rows"], row["watermark"]) if row else None

    async def advance_data(self, committed: DatasetCommitted) -> None:
        """Remember how far a stream's table may be used; an older one changes nothing."""
        await self.conn.execute(
            """
            INSERT INTO dataset (stream, version, watermark, rows)
            VALUES ($1, $2, $3, $4)
                ON CONFLICT (stream) DO UPDATE
               SET version = $2, watermark = greatest(dataset.watermark, $3), rows = $4
             WHERE dataset.version <= $2
            """,
            committed.dataset.stream, committed.dataset.version, committed.usable_until,
            committed.rows,
        )  # fmt: skip

    async def asked(self, model: str) -> Asked | None:
        """Return the model's latest bootstrap request, or None."""
        row = await self.conn.fetchrow(
            "SELECT as_of, in_flight FROM bootstrap WHERE model = $1", model
        )
        return Asked(row["as_of"], row["in_flight"]) if row else None

    async def ask(self, model: str, request_id: str, as_of: datetime) -> None:
        """Remember that a bootstrap is under way."""
        await self.conn.execute(
            """
            INSERT INTO bootstrap (model, request_id, as_of, in_flight)
            VALUES ($1, $2, $3, true)
                ON CONFLICT (model) DO UPDATE
               SET request_id = $2, as_of = $3, in_flight = true
            """,
            model, request_id, as_of,
        )  # fmt: skip

    async def end_bootstrap(self, request_id: str) -> bool:
        """Remember that a bootstrap came to nothing; False when the request was none."""
        ended = await self.conn.fetchval(
            "UPDATE bootstrap SET in_flight = false WHERE request_id = $1 RETURNING model",
            request_id,
        )
        return ended is not None

    async def ask_for_bootstrap(
        self, spec: ModelSpec, generation: int, request_id: str
    ) -> None:
        """Ask for the model's first training when it has no champion and its data suffice."""
        await self.hold("Model", spec.name)
        if await self.champion(spec.name) is not None:
            return
        as_of = bootstrap_as_of(
            await self.data(spec.spec.features.stream),
            await self.data(spec.spec.label.stream),
            await self.asked(spec.name),
            Rules(
                min_rows=spec.spec.train.min_rows,
                bootstrap_at=spec.spec.train.bootstrap_at,
                retry_after=timedelta(seconds=duration_seconds(spec.spec.triggers.cooldown)),
            ),
        )
        if as_of is None:
            return
        await self.ask(spec.name, request_id, as_of)
        await self.publish(
            RunRequested(
                request_id=request_id,
                model=spec.name,
                cause=Cause.BOOTSTRAP,
                as_of=as_of,
                spec_generation=generation,
            )
        )
