"""The registry's reactions against real Postgres.

Each effect once, each refusal with its reason.
"""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from gyral.contracts.deployment import (
    Datatype,
    Input,
    RolloutAborted,
    RolloutCompleted,
    RolloutSteered,
    RouteChanged,
    RoutePinned,
    Share,
    Steer,
)
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.training import RunRequested
from gyral.contracts.versions import ChampionChanged, VersionApproved, VersionRejected
from gyral.kit.blobs import Blobs
from gyral.kit.changes import Changes
from gyral.kit.db import is_infrastructure
from gyral.kit.tx import PermanentError
from gyral.registry.domain.audit import first_break
from gyral.registry.domain.verdict import rejudging_id
from gyral.registry.engine import Evidence
from gyral.registry.handlers import Handlers
from gyral.registry.store.declarations import Author
from gyral.testkit.backends import S3Settings
from gyral.testkit.events import delivered
from tests.services.registry.builders import (
    END,
    NOW,
    REQUEST,
    RUN,
    START,
    a_model,
    a_report,
    a_run,
    committed,
)
from tests.services.registry.conftest import IDS

pytestmark = pytest.mark.live
NOWHERE = S3Settings("http://127.0.0.1:1", "a", SecretStr("b"), "bucket")


def read_already(report):
    class Read(Evidence):
        def __init__(self):
            pass

        async def evaluation(self, _ref):
            return report

        async def input_names(self, _artifacts):
            return ("pages",)

    return Read()


def handlers(opened, report=None):
    evidence = read_already(report or a_report())
    return Handlers(opened, evidence, lambda: NOW, lambda: next(IDS), Changes())


async def published(pool, event_type):
    rows = await pool.fetch(
        "SELECT value FROM outbox WHERE topic = $1 ORDER BY seq", event_type.topic.name
    )
    return [event_type.model_validate_json(row["value"]) for row in rows]


def completed(version=1, epoch=1):
    event = RolloutCompleted(
        model="churn",
        version=version,
        run_id=RUN,
        request_id=REQUEST,
        epoch=epoch,
        as_of=START,
    )
    return delivered(event)


def aborted(version, run_id, stage):
    event = RolloutAborted(
        model="churn",
        version=version,
        run_id=run_id,
        request_id=REQUEST,
        epoch=4,
        stage=stage,
        reason="expected version 1 to answer, as when it was judged; found version 2",
    )
    return delivered(event)


async def test_who_holds_a_rollout_is_in_the_audit_once(declared):
    event = delivered(
        RolloutSteered(
            model="churn",
            version=2,
            run_id=RUN,
            request_id=REQUEST,
            epoch=4,
            order=Steer.PAUSED,
            stage="canary/0",
            actor="ann",
            reason="the weekend",
        )
    )
    await handlers(declared).rollout_steered(event)
    await handlers(declared).rollout_steered(event)
    async with declared() as tx:
        entries = await tx.audit_entries(after=0, limit=100)
    found = [(it.actor, it.action, it.subject, it.reason) for it in entries]
    assert found.count(("ann", "rollout.paused", "churn@2", "the weekend")) == 1


async def test_a_pin_is_in_the_audit_once_however_many_gateways_tell_of_it(declared):
    pin_id = "9d3c2a8e-51f6-4d1c-8a70-3f0f6f0f2b11"
    share = Share(
        version=1,
        weight=100,
        slot="churn@1",
        sha256="a" * 64,
        inputs=(Input(name="pages", datatype=Datatype.FP64),),
    )
    route = RouteChanged(
        model="churn", epoch=1003, shares=(share,), runtime="unix:/r", event_clock=True
    )
    told = [route.model_copy(update={"epoch": epoch}) for epoch in (1003, 1003, 1008)]
    for pinned in (*told, route.model_copy(update={"model": "other"})):
        event = RoutePinned(
            pin_id=pin_id, route=pinned, actor="ann", reason="too high", pinned_at=NOW
        )
        event_id = str(uuid.uuid5(uuid.UUID(pin_id), f"{pinned.model}/{pinned.epoch}"))
        await handlers(declared).route_pinned(delivered(event, event_id))
    async with declared() as tx:
        entries = await tx.audit_entries(after=0, limit=100)
    found = [it for it in entries if it.action == "route.pinned"]
    assert [(it.actor, it.subject, it.reason) for it in found] == [
        ("ann", "churn@1", "too high"),
        ("ann", "other@1", "too high"),
    ]


async def test_a_redelivered_run_becomes_one_version(pool, declared):
    run = a_run()
    await handlers(declared).run_succeeded(run)
    await handlers(declared).run_succeeded(run)
    [approved] = await published(pool, VersionApproved)
    assert (approved.version, approved.bootstrap) == (1, True)


async def test_a_version_that_fails_a_gate_is_rejected_with_its_reasons(pool, declared):
    await handlers(declared, a_report(days=2)).run_succeeded(a_run())
    [rejected] = await published(pool, VersionRejected)
    assert rejected.reasons == ("blocks: expected at least 7; found 2",)
    assert not await published(pool, VersionApproved)


async def test_a_run_whose_evidence_is_gone_is_over_and_rejected_with_the_reason(
    pool, declared, blobs
):
    run = a_run()
    reactions = Handlers(declared, Evidence(blobs), lambda: NOW, lambda: next(IDS), Changes())
    await reactions.run_succeeded(run)
    await reactions.run_succeeded(run)
    [rejected] = await published(pool, VersionRejected)
    assert (rejected.run_id, rejected.request_id) == (RUN, REQUEST)
    assert "evidence: expected readable evidence" in rejected.reasons[0]
    assert "expected a blob; found none" in rejected.reasons[0]


async def test_a_run_whose_evaluation_is_something_else_is_rejected(pool, declared, blobs):
    other = await blobs.put_bytes("evaluation.json", b'{"model": 3}')
    run = a_run()
    run = run.model_copy(
        update={"artifacts": run.artifacts.model_copy(update={"evaluation": other})}
    ).delivered(run.delivery)
    reactions = Handlers(declared, Evidence(blobs), lambda: NOW, lambda: next(IDS), Changes())
    await reactions.run_succeeded(run)
    [rejected] = await published(pool, VersionRejected)
    assert "evaluation.json: expected an evaluation report; found " in rejected.reasons[0]


async def test_a_store_that_is_away_is_waited_for_and_nobody_is_judged(pool, declared):
    away = Blobs(NOWHERE)
    run = a_run()
    reactions = Handlers(declared, Evidence(away), lambda: NOW, lambda: next(IDS), Changes())
    with pytest.raises(ConnectionError) as caught:
        await reactions.run_succeeded(run)
    assert is_infrastructure(caught.value)
    assert not await published(pool, VersionRejected)
    await handlers(declared).run_succeeded(run)
    assert len(await published(pool, VersionApproved)) == 1


async def test_a_run_of_a_model_nobody_declared_is_rejected(pool, opened):
    await handlers(opened).run_succeeded(a_run())
    [rejected] = await published(pool, VersionRejected)
    assert rejected.reasons == ("model: expected a declared model; found churn",)


async def test_a_reason_longer_than_an_event_may_carry_still_rejects(pool, declared):
    class Wide(Evidence):
        async def evaluation(self, _ref):
            return a_report()

        async def input_names(self, _artifacts):
            return tuple(f"a_rather_long_name_of_a_feature_{n}" for n in range(100))

    reactions = handlers(declared)
    wide = replace(reactions, evidence=Wide(Blobs(NOWHERE)))
    await wide.run_succeeded(a_run())
    [rejected] = await published(pool, VersionRejected)
    assert rejected.reasons[0].startswith("schema: expected pages; found a_rather_long")


async def test_only_an_approved_version_becomes_champion(pool, declared):
    with pytest.raises(PermanentError, match="expected an approved version; found none"):
        await handlers(declared).rollout_completed(completed())
    await handlers(declared).run_succeeded(a_run())
    event = completed()
    await handlers(declared).rollout_completed(event)
    await handlers(declared).rollout_completed(event)
    [champion] = await published(pool, ChampionChanged)
    assert (champion.version, champion.generation, champion.previous) == (1, 1, None)


@pytest.mark.parametrize("epoch", [1, 4])
async def test_a_completion_that_comes_late_changes_no_champion(pool, declared, epoch):
    other = "44444444-4444-4444-8444-444444444444"
    await handlers(declared).run_succeeded(a_run())
    await handlers(declared).rollout_completed(completed(epoch=1))
    second = a_run(champion=1, run_id=other)
    await handlers(declared, a_report(champion=1, run_id=other)).run_succeeded(second)
    await handlers(declared).rollout_completed(completed(version=2, epoch=4))
    await handlers(declared).rollout_completed(completed(epoch=epoch))
    assert [c.version for c in await published(pool, ChampionChanged)] == [1, 2]
    assert await pool.fetchval("SELECT version FROM champion") == 2
    kept = await pool.fetchrow("SELECT subject, reason FROM audit ORDER BY seq DESC LIMIT 1")
    assert tuple(kept) == ("churn@2", f"epoch: expected one after 4; found {epoch}")


async def test_a_run_judged_against_a_former_champion_is_asked_for_again(pool, declared):
    await handlers(declared).run_succeeded(a_run())
    await handlers(declared).rollout_completed(completed())
    other = "44444444-4444-4444-8444-444444444444"
    await handlers(declared, a_report(run_id=other)).run_succeeded(a_run(run_id=other))
    [rejected] = await published(pool, VersionRejected)
    assert rejected.reasons == ("champion: expected version 1; found None",)
    [again] = await published(pool, RunRequested)
    assert (again.cause, again.as_of) == ("stale_verdict", END)


async def test_a_version_refused_because_another_answers_is_asked_for_again_once(
    pool, declared
):
    """Its run came before the news that its rival was champion no more."""
    second, third = (f"{n * 11111111}-1111-4111-8111-111111111111" for n in (2, 3))
    await handlers(declared).run_succeeded(a_run())
    await handlers(declared).rollout_completed(completed())
    for run_id in (second, third):
        report = a_report(champion=1, run_id=run_id)
        await handlers(declared, report).run_succeeded(a_run(champion=1, run_id=run_id))
    await handlers(declared).rollout_completed(completed(version=2, epoch=4))
    for event in [aborted(3, third, "shadow"), *[aborted(3, third, "aborted")] * 2]:
        await handlers(declared).rollout_aborted(event)
    [again] = await published(pool, RunRequested)
    assert again.request_id == rejudging_id(third)
    assert (again.cause, again.evidence) == ("stale_verdict", {"run_id": third})


async def test_a_version_refused_while_its_rival_is_champion_waits_for_the_next_alarm(
    pool, declared
):
    other = "44444444-4444-4444-8444-444444444444"
    await handlers(declared).run_succeeded(a_run())
    await handlers(declared).rollout_completed(completed())
    report = a_report(champion=1, run_id=other)
    await handlers(declared, report).run_succeeded(a_run(champion=1, run_id=other))
    await handlers(declared).rollout_aborted(aborted(2, other, "aborted"))
    assert not await published(pool, RunRequested)


async def test_a_bootstrap_is_asked_for_once_when_both_streams_suffice(pool, declared):
    reactions = handlers(declared)
    await reactions.dataset_committed(committed("visits"))
    assert not await published(pool, RunRequested)
    await reactions.dataset_committed(committed("orders"))
    await reactions.dataset_committed(committed("orders", version=2))
    [asked] = await published(pool, RunRequested)
    assert (asked.cause, asked.as_of) == ("bootstrap", END)


async def test_a_bootstrap_looks_no_further_than_what_met_its_expectations(pool, declared):
    reactions = handlers(declared)
    passed = END - timedelta(days=3)
    await reactions.dataset_committed(committed("visits", passed_until=passed))
    await reactions.dataset_committed(committed("orders"))
    [asked] = await published(pool, RunRequested)
    assert asked.as_of == passed


@pytest.mark.parametrize("on_spec_change", [True, False])
async def test_a_changed_spec_asks_for_training_where_its_declaration_wants_that(
    pool, declared, on_spec_change
):
    await handlers(declared).run_succeeded(a_run())
    await handlers(declared).rollout_completed(completed())
    async with declared() as tx:
        for stream in ("visits", "orders"):
            await tx.advance_data(committed(stream))
        document = a_model(seed=8).model_dump(mode="json")
        document["spec"]["triggers"]["on_spec_change"] = on_spec_change
        author = Author("tester", NOW, next(IDS))
        generation = await tx.declare_model(ModelSpec.model_validate(document), author)
    assert (generation.number, generation.changed) == (2, True)
    asked = [request.cause for request in await published(pool, RunRequested)]
    assert asked == (["code"] if on_spec_change else [])


async def test_every_change_is_in_a_chain_that_verifies_and_only_grows(pool, declared):
    await handlers(declared).run_succeeded(a_run())
    async with declared() as tx:
        entries = await tx.audit_entries(after=0, limit=100)
    assert [entry.action for entry in entries] == [*["spec.declared"] * 3, "version.approved"]
    assert first_break(entries) is None
    for statement in ("UPDATE audit SET reason = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(Exception, match="only grows"):
            await pool.execute(statement)
