"""Champions: each reign is written down with the profile its blocks are compared with."""

from dataclasses import dataclass

from gyral.contracts.monitoring import AlertRaised, Severity
from gyral.contracts.versions import ChampionChanged
from gyral.kit.blobs import Blobs, CorruptBlob
from gyral.kit.telemetry import get_log, span
from gyral.kit.tx import Begin
from gyral.modelling.documents import DocumentError
from gyral.modelling.profile import ReferenceProfile
from gyral.monitor.domain.champions import Champion
from gyral.monitor.domain.watches import to_micros
from gyral.monitor.store import MonitorTx

log = get_log()


@dataclass(frozen=True, slots=True)
class Champions:
    """The reaction to a new champion, with everything it needs in plain sight."""

    begin: Begin[MonitorTx]
    blobs: Blobs

    async def champion_changed(self, model: str, event: ChampionChanged | None) -> None:
        """Append the reign to the history: once, however often the topic is read.

        A profile that is missing or broken costs detectors and drift, not the windows; a person
        is told.
        """
        if event is None:
            return
        async with self.begin() as tx:
            if await tx.knows_champion(model, event.generation):
                return
        profile, fault = await self._profile(event)
        champion = Champion(event.generation, event.version, to_micros(event.as_of))
        with span(
            "champion.known",
            parent=event.delivery.traceparent,
            model=model,
            version=event.version,
        ):
            async with self.begin() as tx:
                tx.because(event.delivery)
                await tx.add_champion(model, champion, profile)
                if fault is not None:
                    await tx.publish(_alert(event, fault))

    async def _profile(self, event: ChampionChanged) -> tuple[bytes | None, str | None]:
        """Return the profile's bytes, or why there are none."""
        ref = event.artifacts.profile
        try:
            text = await self.blobs.get_bytes(ref)
            ReferenceProfile.from_json(text)
        except (CorruptBlob, DocumentError, FileNotFoundError) as error:
            log.warning("profile.unusable", model=event.model, version=event.version)
            return None, str(error)[:400]
        return text, None


def _alert(event: ChampionChanged, fault: str) -> AlertRaised:
    return AlertRaised(
        service="monitor",
        subject=f"{event.model}@{event.version}",
        severity=Severity.WARNING,
        reason=f"measured without detectors and drift: {fault}",
    )
