"""The serving benchmark: what it reads of wrk, what it reports, what its page shows."""

import asyncio
import json
import re
import shutil
import sys

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gyral.kit.timings import Timings
from tests.bench.page import DOCS
from tests.bench.report import Machine, machine, publish
from tests.bench.serving import cold, half_open, load, page, rpc
from tests.bench.serving.load import NoWrkError, Target, WrongAnswerError
from tests.bench.serving.report import (
    Cell,
    Cells,
    ColdStart,
    Density,
    DensityReport,
    HalfOpen,
    Held,
    LongServingReport,
    Overload,
    Rows,
    ServingReport,
    over,
)
from tests.bench.serving.system import successes


def cells(rps, p99_ms):
    made = {
        name: Cell(rps=rps * times, p50_ms=p99_ms / 2, p99_ms=p99_ms * times)
        for name, times in (("c1", 1), ("c16", 4), ("c64", 5))
    }
    return Cells(**made)


def a_report():
    gateway, kserve = cells(4_000, 0.5), cells(3_000, 1.0)
    return ServingReport(
        date="2026-11-26",
        machine=Machine(cores=2, processor="a <fast> one", memory_gb=24, python="3.11.7"),
        seconds=300,
        gateway=gateway,
        gateway_binary=cells(4_100, 0.5),
        gateway_grpc=cells(1_300, 0.9),
        kserve=kserve,
        ceiling=cells(10_000, 0.1),
        over_kserve=over(gateway, kserve, "rps"),
        p99_over_kserve=over(gateway, kserve, "p99_ms"),
        rows=Rows(
            rows=64, gateway_rows_per_s=400_000, kserve_rows_per_s=160_000, over_kserve=2.5
        ),
        overload=Overload(
            capacity_rps=800,
            offered_rps=8_000,
            goodput_rps=760,
            goodput_share=0.95,
            served_p99_ms=150,
            p99_ratio=1.5,
            refused_share=1.0,
            recovery_s=0.4,
        ),
        half_open=HalfOpen(
            sockets=2_000, rps=500, calm_p99_ms=1.2, p99_ms=1.5, p99_ratio=1.25, closed_s=6.1
        ),
        stages_us={"read": 4.0, "entry": 6.5},
        core_us={"gateway": 41.0, "runtime": 12.0, "kafka": 9.0},
        foreign_cpu=0.02,
        logged=100_000,
    )


def a_density():
    ms = {"p50": 0.1, "p99": 2.0}
    one = Density(budget_mb=67.1, ready_s=2.0, loaded_mb=75, end_mb=76, same_ms=ms, turns_ms=ms)
    return DensityReport(
        date="2026-01-01",
        machine=machine(),
        models=500,
        model_bytes=224_000,
        empty_mb=130,
        runs=[one],
        cold_start=ColdStart(starts=5, p50_s=1.23, longest_s=1.87, warm_p50_ms=0.81),
    )


def a_long():
    held = Held(
        process="gateway",
        warm_mb=120.1,
        end_mb=121.2,
        peak_mb=123.2,
        mb_per_million_requests=0.117,
        samples=[(1_000_000, 120.1), (10_000_000, 121.2)],
    )
    return LongServingReport(
        date="2026-01-01",
        machine=machine(),
        seconds=900,
        requests=10_000_000,
        rps=11_111,
        memory=[held],
    )


def test_ratios_are_of_the_gateway_over_kserve():
    told = a_report()
    assert told.over_kserve.c64 == pytest.approx(4 / 3, abs=1e-3)
    assert told.p99_over_kserve.c1 == 0.5


def test_the_page_and_its_picture_are_those_of_the_kept_report():
    found = page.read(DOCS / "results")
    text = (DOCS / page.PAGE).read_text()
    assert page.rendered(text, found) == text, "run `make scale`"
    if found.serving is not None:
        kept = (DOCS / "images" / page.PICTURE).read_text()
        assert page.picture(found.serving) == kept, "run `make scale`"


def test_the_page_has_every_block_of_figures_once():
    named = re.findall(r"<!-- figures: (\w+) -->", (DOCS / page.PAGE).read_text())
    assert sorted(named) == sorted(page.BLOCKS)


def test_one_command_takes_a_report_over(tmp_path, capsys):
    docs = tmp_path / "docs"
    (docs / "images").mkdir(parents=True)
    shutil.copy(DOCS / page.PAGE, docs / page.PAGE)
    publish(a_density(), tmp_path)
    publish(a_long(), tmp_path)
    capsys.readouterr()
    publish(a_report(), tmp_path)
    line = json.loads(capsys.readouterr().out)
    assert line["gateway"]["c64"]["rps"] == 20_000
    page.keep(tmp_path, docs)
    written = (docs / page.PAGE).read_text()
    assert "Not measured yet" not in written
    for shown in (
        "20,000 / 0.25 / 2.50",
        "| 1.33 | 1.33 | 1.33 |",
        "2.50 times",
        "95%",
        "| 67 | 76 |",
        "| gateway | 120.1 | 121.2 | 123.2 | +0.12 |",
        "| 1.23 s |",
        "| 0.81 ms |",
        "| gateway_grpc | 1,300 / 0.45 / 0.90 |",
        "| ratio | 1.25 | 2 |",
    ):
        assert shown in written, shown
    assert page.read(docs / "results") == page.Found(a_report(), a_density(), a_long())
    assert (docs / "images" / page.PICTURE).read_text().startswith("<svg ")


def test_a_missing_generator_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoWrkError, match="apt-get install wrk"):
        load.wrk()


@pytest.fixture
async def server():
    """An HTTP server that answers everything with what the test says."""
    answers = {"body": b'{"y": [[0.25, 0.75]]}', "status": b"200 OK"}

    async def serve(reader, writer):
        while head := await head_of(reader):
            [length] = re.findall(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length))
            size = len(answers["body"])
            writer.write(
                b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b"
                % (answers["status"], size, answers["body"])
            )
        writer.close()

    async def head_of(reader):
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    yield Target(f"http://127.0.0.1:{port}/x", b"\x00\"'\\", [0.75], {"x-key": 'a"b'}), answers
    listening.close()
    await listening.wait_closed()


async def test_an_answer_is_checked_to_the_last_probability(server):
    target, answers = server
    await asyncio.to_thread(load.check, target)
    answers["body"] = b'{"y": [[0.25, 0.7501]]}'
    with pytest.raises(WrongAnswerError, match=r"expected 0\.750000"):
        await asyncio.to_thread(load.check, target)


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
async def test_a_window_counts_answers_and_a_refusal_spoils_it(server, tmp_path):
    target, answers = server
    window = await asyncio.to_thread(load.load, target, tmp_path, connections=2, seconds=1)
    assert window.requests > 10
    assert 0 < window.p50_us <= window.p99_us
    assert window.rps == pytest.approx(window.requests / window.us * 1e6)
    answers["status"] = b"429 Too Many Requests"
    with pytest.raises(RuntimeError, match=r"found \d+ refused and 0 broken"):
        await asyncio.to_thread(load.load, target, tmp_path, connections=2, seconds=1)


def test_a_log_of_h2load_is_a_window_and_a_refusal_spoils_it():
    log = np.array([[at * 1_000, 200, at + 1] for at in range(1_000)])
    told = rpc.window(log, 2)
    assert (told.rps, told.p50_us) == (500, 500)
    assert told.p99_us == 990
    log[7, 1] = 503
    with pytest.raises(RuntimeError, match="found 1 others of 1000"):
        rpc.window(log, 2)
    with pytest.raises(RuntimeError, match="found 0 others of 0"):
        rpc.window(log[:0], 2)


async def test_connections_that_never_finish_are_counted_until_the_server_has_closed_them():
    """The server gives each connection half a second for its first request."""
    begun = []

    async def serve(reader, writer):
        begun.append(writer)
        try:
            async with asyncio.timeout(0.5):
                whole = await reader.readuntil(b"\r\n\r\n{}")
            while whole:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                whole = await reader.readuntil(b"\r\n\r\n{}")
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    target = Target(f"http://127.0.0.1:{port}/x", b"{}", [0.5], {})
    async with listening:
        found = await asyncio.to_thread(half_open.run, target, sockets=9, window_s=0.1)
    assert len(begun) >= 3 * found.sockets == 27
    assert found.p99_ratio > 0
    assert 0 < found.closed_s < 20


async def test_without_the_generator_it_ends_with_one_line(monkeypatch):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.serving",
        env={"PATH": "/nowhere", "OMP_NUM_THREADS": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().splitlines() == [
        "wrk: expected the load generator; found none: apt-get install wrk"
    ]


def test_the_gateways_own_count_of_answers_is_read_from_its_metrics():
    registry = CollectorRegistry()
    seconds = Timings("gyral_gateway_seconds", "Time to answer", label="status")
    seconds.shown_in(registry)
    assert successes(generate_latest(registry).decode()) == 0
    for status in ("200", "429", "200"):
        seconds.record(0.01, status)
    assert successes(generate_latest(registry).decode()) == 2


@pytest.mark.live
def test_a_cold_start_is_measured_from_a_request_to_its_answer(stack):
    told = cold.run(stack, starts=1)
    assert told.starts == 1
    assert 0 < told.warm_p50_ms < told.p50_s * 1e3
    assert told.p50_s == told.longest_s
