"""The loop closes on a few weeks of flights: alarm, training, verdict, rollout, and again."""

import httpx
import pytest

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


def trace(environment, trace_id):
    return httpx.get(f"{environment['ZIPKIN_URL']}/api/v2/trace/{trace_id}").json()


def test_the_loop_closes_and_every_invariant_holds(loop, specs, flights, tmp_path):
    report = loop.replay(specs, flights, tmp_path / "out", bootstrap="21d").report()
    assert report["promotions"] >= 1
    assert report["triggers"]
    assert set(report["invariants"].values()) == {0}
    assert len(report["invariants"]) >= 8
    assert report["closing_latency_s"]["max"] > 0
    # Nothing was killed: rollouts alone must not cost the application a single attempt.
    assert report["retried"].get("gateway", {}) == {}
    audit = loop.gyral("audit", "--sent", tmp_path / "out" / "sent.jsonl", "-o", "json")
    assert audit.returncode == 0, audit.stderr
    spans = trace(loop.stack.instance.env(), report["trace_id"])
    services = {span["localEndpoint"]["serviceName"] for span in spans}
    assert {"monitor", "trainer", "registry", "deployer"} <= services
    known = {span["id"] for span in spans}
    roots = [span for span in spans if span.get("parentId") not in known]
    assert len(roots) == 1, [span["name"] for span in roots]
