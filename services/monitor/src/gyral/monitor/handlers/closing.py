"""Closing a model's blocks, in the transaction of the marker that allows it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gyral.contracts.monitoring import DriftDetected, QualityDropped, WindowMeasured
from gyral.contracts.training import RunRequested
from gyral.kit.telemetry import get_log, span
from gyral.modelling.columns import Ints
from gyral.modelling.detectors import ExcessBaseline, LossBaseline
from gyral.modelling.profile import ReferenceProfile
from gyral.monitor.domain import judging, measuring
from gyral.monitor.domain.champions import Champion, champion_of
from gyral.monitor.domain.joining import join
from gyral.monitor.domain.judging import Block, Detectors, Judgement
from gyral.monitor.domain.watches import Watch, to_datetime
from gyral.monitor.engine.counting import Rows, count
from gyral.monitor.store import MonitorTx
from gyral.monitor.store.champions import Profiles
from gyral.monitor.store.specs import Specs
from gyral.monitor.store.windows import StoredAlarm, Watched, Window

log = get_log()


@dataclass(frozen=True, slots=True)
class Span:
    """One block that may close, and the champion it is judged by."""

    start_us: int
    end_us: int
    champion: Champion
    first: Champion
    """The model's first champion: its timer began then."""


@dataclass(frozen=True, slots=True)
class Closing:
    """How blocks are closed, with everything it needs in plain sight."""

    specs: Specs
    profiles: Profiles
    label_patience_us: int
    """How long labels are kept for models that never closed a block."""

    async def close(self, tx: MonitorTx, watch: Watch) -> None:
        """Close every block of a model that both watermarks have passed, in order.

        Blocks without predictions, and those before the first champion, leave no window.
        """
        await tx.hold(watch.model)
        predicted_us, labelled_us = await tx.watermarks_of(watch)
        until_us = watch.closable_until(predicted_us, labelled_us)
        state = await tx.watched(watch.model)
        if until_us is None or (state is not None and until_us <= state.closed_until_us):
            return
        closed_us = state.closed_until_us if state else None
        state = state or Watched(until_us, None, None, None, Detectors())
        champions = await tx.champions(watch.model)
        starts = await tx.block_starts(watch.model, watch.block_us, closed_us, until_us)
        for block_start_us in starts:
            start_us, end_us = watch.window(block_start_us, closed_us)
            champion = champion_of(champions, end_us)
            if champion is not None:
                closed = Span(start_us, end_us, champion, champions[0])
                with span("window.closed", model=watch.model, version=champion.version):
                    state = await self._judge(tx, watch, state, closed)
        await tx.settle(watch.model, replace(state, closed_until_us=until_us))
        await tx.forget(watch.model, until_us)
        await self._expire_labels(tx, watch, labelled_us or 0)

    async def _judge(
        self, tx: MonitorTx, watch: Watch, state: Watched, closed: Span
    ) -> Watched:
        """Measure and judge one block and tell of it; return how the model stands after it."""
        champion = closed.champion
        profile = await self.profiles.of(tx, watch.model, champion.version)
        block = await self._measure(tx, watch, state, closed, profile)
        same = state.generation == champion.generation and state.block_us == watch.block_us
        judged = judging.judge(watch, state.detectors if same else Detectors(), block)
        window = _window(watch, closed, block, judged)
        await tx.add_window(window)
        await _tell(tx, watch, window, block, judged)
        log.info("window.closed", model=watch.model, version=champion.version, rows=window.rows)
        return replace(
            state,
            generation=champion.generation,
            block_us=watch.block_us,
            detectors=judged.detectors,
            schedule_from_us=closed.end_us if judged.scheduled else state.schedule_from_us,
        )

    async def _measure(
        self,
        tx: MonitorTx,
        watch: Watch,
        state: Watched,
        closed: Span,
        profile: ReferenceProfile | None,
    ) -> Block:
        seen = await tx.predictions(watch.model, closed.start_us, closed.end_us)
        entities = sorted({entity for entity in seen.entities if entity is not None})
        labels = await tx.labels(watch.source.name, entities, closed.end_us + watch.horizon_us)
        joined = join(seen, labels, watch.rule)
        own = seen.versions == closed.champion.version
        cutoff_us = profile.cutoff_us if profile else closed.champion.as_of_us
        if profile and profile.block_us != closed.end_us - closed.start_us:
            profile = None  # what is usual in blocks of one length says nothing of another
        counts = await _counts(tx, watch.model, closed, profile) if profile else None
        quality = measuring.quality(
            seen.probabilities[own],
            joined.positive[own],
            joined.labelled[own],
            joined.superseded[own],
        )
        return Block(
            start_us=closed.start_us,
            end_us=closed.end_us,
            quality=quality,
            shift=measuring.shift(profile, counts, seen.probabilities[own]),
            baseline=_baseline(profile),
            usual_excess=profile.excess_baseline if profile else ExcessBaseline(),
            schedule_from_us=state.schedule_from_us or closed.first.as_of_us,
            rows_since_training=await tx.labelled_since(watch.model, cutoff_us)
            + quality.labelled_rows,
        )

    async def _expire_labels(self, tx: MonitorTx, watch: Watch, labelled_us: int) -> None:
        """Drop labels that no open block of their models can use: matched, or never to be."""
        models = [it.model for it in self.specs.watches() if it.source == watch.source]
        closed = await tx.closed_until(models)
        patience_us = labelled_us - self.label_patience_us
        before_us = min(closed.get(model, patience_us) for model in [watch.model, *models])
        expired = await tx.expire_labels(watch.source.name, before_us)
        if expired:
            log.debug("labels.expired", stream=watch.source.stream, labels=expired)


async def _counts(tx: MonitorTx, model: str, closed: Span, profile: ReferenceProfile) -> Ints:
    """Merge what was counted at arrival with what had to wait for the version's bins."""
    bins = profile.features.bins
    version, start_us, end_us = closed.champion.version, closed.start_us, closed.end_us
    total = np.zeros(bins.size, np.int64)
    for counted in await tx.counts(model, version, start_us, end_us):
        total += np.array(counted, np.int64)
    waiting = await tx.unbinned(model, version, start_us, end_us)
    rows = [Rows(it.features, it.rows, [start_us] * len(it.rows)) for it in waiting]
    for counts in count(bins, rows).values():
        total += counts
    return total


def _baseline(profile: ReferenceProfile | None) -> LossBaseline | None:
    try:
        return profile.baseline if profile else None
    except ValueError:  # too few blocks were scored out of fold to know their spread
        return None


def _window(watch: Watch, closed: Span, block: Block, judged: Judgement) -> Window:
    quality, shift = block.quality, block.shift
    return Window(
        model=watch.model,
        start_us=closed.start_us,
        end_us=closed.end_us,
        version=closed.champion.version,
        rows=quality.rows,
        labelled_rows=quality.labelled_rows,
        measures={
            "superseded_rows": quality.superseded_rows,
            "mean_prediction": quality.mean_prediction,
            "base_rate": quality.base_rate,
            "log_loss": quality.log_loss,
            "entropy": quality.entropy,
            "excess_loss": quality.excess_loss,
            "brier": quality.brier,
            "ece": quality.ece,
            "auc": quality.auc,
            "z": judged.z,
            "cusum": judged.detectors.cusum.value,
            "excess_mean": judged.excess.mean,
            "excess_t": judged.excess.t,
            "drift_max_z": shift.features.max_z if shift.features else None,
            "drift_limit": shift.features.limit if shift.features else None,
            "score_max_z": shift.scores.max_z if shift.scores else None,
        },
        worst_feature=shift.features.feature if shift.features else None,
    )


async def _tell(
    tx: MonitorTx, watch: Watch, window: Window, block: Block, judged: Judgement
) -> None:
    """Publish what the block shows and asks for, and keep its alarms."""
    start, end = to_datetime(window.start_us), to_datetime(window.end_us)
    await tx.publish(
        WindowMeasured(
            model=watch.model,
            version=window.version,
            window_start=start,
            window_end=end,
            rows=window.rows,
            labelled_rows=window.labelled_rows,
            measures=dict(window.measures),
        )
    )
    drift = block.shift.features
    if judged.drifted and drift is not None:
        await tx.publish(
            DriftDetected(
                model=watch.model,
                version=window.version,
                window_start=start,
                window_end=end,
                feature=drift.feature,
                max_z=drift.max_z,
                threshold=drift.limit,
            )
        )
    request = judged.request
    for alarm in judged.alarms if request else ():
        await tx.publish(
            QualityDropped(
                model=watch.model,
                version=window.version,
                window_start=start,
                window_end=end,
                detector=alarm.detector,
                measured=alarm.measured,
                threshold=alarm.threshold,
                request_id=request.request_id if request else "",
            )
        )
    for stored in _alarms(window, block, judged):
        await tx.add_alarm(stored)
    if request is not None:
        await tx.add_request(watch.model, request)
        await tx.publish(
            RunRequested(
                request_id=request.request_id,
                model=watch.model,
                cause=request.cause,
                as_of=to_datetime(request.as_of_us),
                spec_generation=watch.generation,
                evidence=dict(request.evidence),
            )
        )


def _alarms(window: Window, block: Block, judged: Judgement) -> Iterator[StoredAlarm]:
    place = (window.model, window.start_us)
    request_id = judged.request.request_id if judged.request else None
    for alarm in judged.alarms:
        yield StoredAlarm(
            *place,
            alarm.detector,
            window.version,
            alarm.measured,
            alarm.threshold,
            request_id=request_id,
        )
    drift = block.shift.features
    if judged.drifted and drift is not None:
        yield StoredAlarm(
            *place, "drift", window.version, drift.max_z, drift.limit, feature=drift.feature
        )
