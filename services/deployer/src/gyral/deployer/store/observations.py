"""What the deployer remembers of answered requests, while their step lasts."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from uuid import UUID

import numpy as np

from gyral.deployer.domain.measures import Observed
from gyral.kit.tx import Tx
from gyral.modelling.columns import Floats


@dataclass(frozen=True, slots=True)
class Observation:
    """One answered request, as the prediction log tells of it."""

    model: str
    request_id: UUID
    role: str
    epoch: int
    version: int
    rows: int
    failed_rows: int
    latency_us: int
    score: float | None
    """Mean of its rows' scores; None where one failed."""
    block: int
    """The same for requests that depend on each other."""


class ObservationTx(Tx):
    """A transaction over what was observed."""

    async def observe(self, observations: Iterable[Observation]) -> None:
        """Count answered requests, each once however often it is logged."""
        await self.conn.executemany(
            """
            INSERT INTO observation (model, request_id, role, epoch, version,
                                     rows, failed_rows, latency_us, score, block)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                ON CONFLICT DO NOTHING
            """,
            [astuple(observation) for observation in observations],
        )

    async def observed(
        self, model: str, version: int, epoch: int, role: str | None = None
    ) -> Observed:
        """Return what one version answered under one epoch, in one role or in any."""
        rows = await self.conn.fetch(
            """
            SELECT rows, failed_rows, latency_us, score, block
              FROM observation
             WHERE model = $1 AND version = $2 AND epoch = $3
               AND ($4::text IS NULL OR role = $4)
             ORDER BY request_id
            """,
            model, version, epoch, role,
        )  # fmt: skip
        scored = [(row["block"], row["score"]) for row in rows if row["score"] is not None]
        return Observed(
            rows=sum(row["rows"] for row in rows),
            failed_rows=sum(row["failed_rows"] for row in rows),
            failed_requests=sum(row["failed_rows"] > 0 for row in rows),
            latencies_us=np.array([row["latency_us"] for row in rows], np.float64),
            scores=np.array([score for _, score in scored], np.float64),
            blocks=np.array([block for block, _ in scored], np.int64),
        )

    async def score_differences(
        self, model: str, candidate: int, champion: int, epoch: int
    ) -> Floats:
        """Return candidate's score minus champion's on the same requests, a mean a block."""
        rows = await self.conn.fetch(
            """
            SELECT avg(one.score - other.score) AS difference
              FROM observation AS one
              JOIN observation AS other USING (model, epoch, request_id)
             WHERE model = $1 AND epoch = $2 AND one.version = $3 AND other.version = $4
               AND one.score IS NOT NULL AND other.score IS NOT NULL
             GROUP BY one.block
             ORDER BY one.block
            """,
            model, epoch, candidate, champion,
        )  # fmt: skip
        return np.array([row["difference"] for row in rows], np.float64)

    async def carry_observations(self, model: str, before: int, epoch: int) -> None:
        """Let what was observed under one epoch count under another of the same shares."""
        await self.conn.execute(
            "UPDATE observation SET epoch = $3 WHERE model = $1 AND epoch = $2",
            model,
            before,
            epoch,
        )

    async def forget_observations(self, model: str, before_epoch: int) -> None:
        """Drop what was observed under earlier epochs."""
        await self.conn.execute(
            "DELETE FROM observation WHERE model = $1 AND epoch < $2", model, before_epoch
        )
