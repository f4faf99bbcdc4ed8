import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gyral.local import statuses
from gyral.local.errors import LocalError
from gyral.local.processes import Identity, identify
from gyral.local.stack import Stack
from gyral.local.statuses import Phase, Status
from gyral.local.unit import Backoff
from tests.infra.small import RUNNER, entry, eventually, gone, notes, python, small_stack

HEALTHY = "service_healthy"


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Stack]:
    """Two services, the second of which needs the first to be healthy."""
    stack = small_stack(
        tmp_path, second=entry("second", needs={"first": HEALTHY}), first=entry("first")
    )
    yield stack
    stack.down()


def names(lines: list[str]) -> list[str]:
    return [line.rpartition(" ")[0] for line in lines]


def pid_of(stack: Stack, name: str) -> int:
    pid = stack.statuses()[name].pid
    assert pid is not None
    return pid


def test_services_start_after_what_they_need_and_stop_before_it(chain: Stack):
    chain.up()
    chain.down()
    assert names(notes(chain)) == [
        "first started",
        "second started",
        "second stopped",
        "first stopped",
    ]


def test_up_returns_when_all_are_healthy(chain: Stack):
    chain.up()
    assert {name: status.phase for name, status in chain.statuses().items()} == {
        "first": Phase.HEALTHY,
        "second": Phase.HEALTHY,
    }


def test_a_second_up_finds_everything_running(chain: Stack):
    chain.up()
    before = chain.statuses()
    chain.up()
    assert chain.statuses() == before


def test_more_services_join_a_running_stack(chain: Stack):
    chain.up(["first"])
    assert set(chain.statuses()) == {"first"}
    first = pid_of(chain, "first")
    chain.up()
    assert set(chain.statuses()) == {"first", "second"}
    assert pid_of(chain, "first") == first


def test_two_ups_at_once_start_one_stack(chain: Stack):
    racing = [
        subprocess.Popen([*RUNNER, "up"], env=python(chain), stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = [(one.communicate()[1], one.returncode) for one in racing]
    assert answers == [(b"", 0), (b"", 0)]
    assert names(notes(chain)) == ["first started", "second started"]


def test_a_killed_service_is_started_again(chain: Stack):
    chain.up()
    before = pid_of(chain, "first")
    chain.kill("first")
    chain.await_up(["first"])
    after = chain.statuses()["first"]
    assert (after.restarts, after.last_exit) == (1, -signal.SIGKILL)
    assert after.pid != before
    assert gone(before)


def test_nobody_is_refused_while_a_service_that_inherits_its_socket_is_restarted(
    tmp_path: Path,
):
    stack = small_stack(tmp_path, door=entry("door", inherits=True))
    try:
        stack.up()
        before, port = pid_of(stack, "door"), int(stack.env()["DOOR_PORT"])
        stop, refused = threading.Event(), []

        def knock() -> None:
            while not stop.is_set():
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=60).close()
                except OSError as error:
                    refused.append(error)

        knocking = threading.Thread(target=knock)
        knocking.start()
        stack.restart("door")
        stop.set()
        knocking.join(60)
        assert refused == []
        assert pid_of(stack, "door") != before
        assert stack.statuses()["door"].last_exit == 0
    finally:
        stack.down()


def test_a_service_that_does_not_run_cannot_be_restarted(tmp_path: Path):
    stack = small_stack(tmp_path, job=entry("job", restart="no", command=["true"]))
    try:
        stack.up()
        with pytest.raises(LocalError, match="job does not run"):
            stack.restart("job")
    finally:
        stack.down()


def test_the_wait_doubles_until_a_steady_run_shortens_it():
    backoff = Backoff()
    assert [backoff.after(0) for _ in range(9)] == [
        0.2,
        0.4,
        0.8,
        1.6,
        3.2,
        6.4,
        12.8,
        25.6,
        30.0,
    ]
    assert backoff.after(10.1) == 0.2
    assert backoff.after(0) == 0.4


def test_what_a_service_started_dies_with_it(tmp_path: Path):
    stack = small_stack(tmp_path, only=entry("only", WITH_CHILDREN="1"))
    stack.up()
    [child] = [int(line.split()[2]) for line in notes(stack) if "child" in line]
    stack.kill("only")
    eventually(lambda: gone(child), "the child of a killed service ends")
    stack.down()


def test_down_leaves_nothing_when_the_supervisor_was_killed(tmp_path: Path):
    stack = small_stack(tmp_path, only=entry("only", WITH_CHILDREN="1"))
    stack.up()
    supervisor = stack.supervisor()
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    eventually(lambda: stack.supervisor() is None, "the supervisor is gone")
    pids = [int(line.split()[2]) for line in notes(stack)]
    assert len(pids) == 3
    assert not any(gone(pid) for pid in pids)
    stack.down()
    eventually(lambda: all(gone(pid) for pid in pids), "service, child and stray are gone")


def test_up_replaces_what_a_killed_supervisor_left(chain: Stack):
    chain.up()
    supervisor, before = chain.supervisor(), pid_of(chain, "first")
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    eventually(lambda: chain.supervisor() is None, "the supervisor is gone")
    chain.up()
    assert gone(before)
    assert pid_of(chain, "first") != before


def test_a_stack_with_an_owner_goes_down_with_it(chain: Stack):
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as owner:
        owned = Stack(chain.instance, owner=identify(owner.pid))
        owned.up()
        first = pid_of(chain, "first")
        owner.kill()
    eventually(lambda: gone(first) and chain.supervisor() is None, "the stack goes down")
    assert names(notes(chain))[-1] == "first stopped"


def test_nothing_that_a_service_left_to_itself_outlives_the_stack(tmp_path: Path):
    """As runtimes are that the deployer makes; and whoever ends the stack."""
    stack = small_stack(tmp_path, only=entry("only", WITH_CHILDREN="1"))
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as owner:
        Stack(stack.instance, owner=identify(owner.pid)).up()
        pids = [int(line.split()[2]) for line in notes(stack)]
        assert len(pids) == 3
        owner.kill()
    eventually(lambda: all(gone(pid) for pid in pids), "service, child and stray are gone")


def test_a_stack_goes_down_when_its_instance_is_removed(chain: Stack):
    chain.up()
    pids = [pid_of(chain, name) for name in ("first", "second")]
    chain.instance.home.rename(chain.instance.home.with_name("trash"))
    eventually(lambda: all(gone(pid) for pid in pids), "the stack goes down")


def test_a_process_that_only_has_the_same_id_is_left_alone(chain: Stack):
    chain.instance.prepare()
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as stranger:
        stale = Status("first", Phase.HEALTHY, pid=stranger.pid, started="1")
        statuses.write(chain.instance, {"first": stale})
        (chain.instance.run / "supervisor.pid").write_text(f"{stranger.pid} 1\n")
        chain.down()
        assert stranger.poll() is None
        Identity(stranger.pid, "1").kill_group()
        assert stranger.poll() is None
        identify(stranger.pid).signal(signal.SIGKILL)


def test_a_service_that_keeps_ending_is_told_with_its_last_words(tmp_path: Path):
    failing = ["${PYTHON}", "-c", "import sys; sys.exit('no such table: gate')"]
    stack = small_stack(tmp_path, broken=entry("broken", command=failing))
    with pytest.raises(LocalError, match=r"^broken does not start: .*1, 'no such table: gate'"):
        stack.up()
    stack.down()


def test_a_command_that_does_not_exist_is_told(tmp_path: Path):
    stack = small_stack(
        tmp_path, absent=entry("absent", command=["/nowhere/at-all"], restart="no")
    )
    with pytest.raises(LocalError, match="/nowhere/at-all cannot be started"):
        stack.up()
    stack.down()


def test_a_one_shot_job_must_complete_before_others_start(tmp_path: Path):
    job = [
        "${PYTHON}",
        "-c",
        "import os; open(os.environ['NOTES'], 'a').write('job done 0\\n')",
    ]
    stack = small_stack(
        tmp_path,
        job=entry("job", command=job, restart="on-failure"),
        after=entry("after", needs={"job": "service_completed_successfully"}),
    )
    stack.up()
    assert names(notes(stack)) == ["job done", "after started"]
    assert stack.statuses()["job"].phase is Phase.COMPLETED
    stack.down()


def test_slow_starters_are_not_killed_within_the_start_period(tmp_path: Path):
    patient = {"retries": 2, "start_period": "10m"}
    stack = small_stack(tmp_path, slow=entry("slow", healthcheck=patient, UNREADY_ANSWERS="8"))
    stack.up()
    assert stack.statuses()["slow"].restarts == 0
    stack.down()


def test_what_never_answers_is_killed_after_the_start_period(tmp_path: Path):
    strict = {"retries": 2, "start_period": "0s"}
    stack = small_stack(
        tmp_path, mute=entry("mute", healthcheck=strict, UNREADY_ANSWERS="1000000")
    )
    with pytest.raises(LocalError, match="mute did not answer 2 times in a row: killed"):
        stack.up()
    stack.down()


def test_not_ready_but_alive_is_no_reason_to_be_killed(tmp_path: Path):
    quick = {"retries": 2, "start_period": "10m", "interval": "10ms"}
    stack = small_stack(tmp_path, torn=entry("torn", healthcheck=quick, live=True))
    stack.up()
    port = stack.env()["TORN_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/break"):
        pass
    eventually(
        lambda: notes(stack).count("torn asked whether it lives") > 10,
        "it is asked whether it lives, more often than failures are allowed",
    )
    status = stack.statuses()["torn"]
    assert (status.phase, status.restarts) == (Phase.NOT_READY, 0)
    stack.down()


def test_the_foreground_runner_stops_everything_at_ctrl_c(chain: Stack):
    with subprocess.Popen(
        [*RUNNER, "up", "--foreground"], env=python(chain), stderr=subprocess.PIPE
    ) as runner:
        eventually(
            lambda: [s.is_up for s in chain.statuses().values()] == [True, True], "both are up"
        )
        runner.send_signal(signal.SIGINT)
        _, said = runner.communicate()
    assert runner.returncode == 0
    assert b"first stopped" in said
    assert names(notes(chain))[-2:] == ["second stopped", "first stopped"]


def test_status_speaks_json(chain: Stack):
    chain.up()
    answer = subprocess.run(
        [*RUNNER, "status", "-o", "json"], env=python(chain), capture_output=True, check=True
    )
    rows = json.loads(answer.stdout)
    assert {row["name"]: row["phase"] for row in rows} == {
        "first": "healthy",
        "second": "healthy",
    }


def test_a_service_gets_its_own_environment_only(chain: Stack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-the-shell")
    chain.up(["first"])
    given = Path(f"/proc/{pid_of(chain, 'first')}/environ").read_bytes()
    assert b"from-the-shell" not in given
    assert b"HTTP_PORT=" in given
