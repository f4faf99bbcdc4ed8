"""Which versions were champions since when, and what was normal when they learned."""

from gyral.kit.tx import Tx
from gyral.modelling.profile import ReferenceProfile
from gyral.monitor.domain.champions import Champion


class ChampionTx(Tx):
    """A transaction over the history of champions."""

    async def knows_champion(self, model: str, generation: int) -> bool:
        """Tell whether this reign is in the history."""
        found = await self.conn.fetchval(
            "SELECT true FROM champion WHERE model = $1 AND generation = $2", model, generation
        )
        return bool(found)

    async def add_champion(self, model: str, champion: Champion, profile: bytes | None) -> None:
        """Append a reign; again is harmless."""
        await self.conn.execute(
            """
            INSERT INTO champion (model, generation, version, as_of_us, profile)
            VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT DO NOTHING
            """,
            model, champion.generation, champion.version, champion.as_of_us, profile,
        )  # fmt: skip

    async def champions(self, model: str) -> list[Champion]:
        """Return all reigns of a model, oldest first."""
        rows = await self.conn.fetch(
            """
            SELECT generation, version, as_of_us
              FROM champion
             WHERE model = $1
             ORDER BY generation
            """,
            model,
        )
        return [Champion(row["generation"], row["version"], row["as_of_us"]) for row in rows]

    async def profile_bytes(self, model: str, version: int) -> bytes | None:
        """Return the reference profile of a version that was champion, or None."""
        profile: bytes | None = await self.conn.fetchval(
            """
            SELECT profile FROM champion
             WHERE model = $1 AND version = $2 AND profile IS NOT NULL
             ORDER BY generation DESC
             LIMIT 1
            """,
            model, version,
        )  # fmt: skip
        return profile


class Profiles:
    """Parsed reference profiles of the latest versions; they never change, so they are kept."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._known: dict[tuple[str, int], ReferenceProfile] = {}

    async def of(self, tx: ChampionTx, model: str, version: int) -> ReferenceProfile | None:
        """Return a version's profile, or None while (or because) it has none."""
        known = self._known.get((model, version))
        if known is not None:
            return known
        text = await tx.profile_bytes(model, version)
        if text is None:
            return None
        if len(self._known) >= self._size:
            self._known.pop(next(iter(self._known)))
        profile = ReferenceProfile.from_json(text)
        self._known[model, version] = profile
        return profile
