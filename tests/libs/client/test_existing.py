"""What commands say of names that nobody declared, and of a champion where none may be."""

from contextlib import ExitStack

import pytest

from gyral.client.addresses import find
from gyral.client.calls import Platform
from gyral.client.commandline import run
from gyral.client.errors import ClientError
from gyral.client.replay.playing import refuse_second
from tests.libs.client.served import served

OF_ONE_MODEL = [
    ["get", "versions", "m"],
    ["get", "alarms", "m"],
    ["runs", "m"],
    ["rollout", "show", "m"],
    ["trace", "m"],
]
LISTS = (
    "/v1/models/m/versions",
    "/v1/models/m/alarms",
    "/v1/runs",
    "/v1/models/m/rollouts",
    "/v1/streams/s/blocks",
)


NOTHING = dict.fromkeys(LISTS, ())


@pytest.fixture
def serve(monkeypatch):
    """Have every service answer what a test writes down, until the test is over."""
    with ExitStack() as stack:

        def answering(answers):
            for name, value in stack.enter_context(served(answers)).items():
                monkeypatch.setenv(name, value)

        yield answering


@pytest.mark.parametrize("arguments", [*OF_ONE_MODEL, ["blocks", "ls", "s"]])
def test_a_name_that_nobody_declared_is_an_error_and_no_empty_table(arguments, serve, capsys):
    serve(NOTHING)
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "registry answered 404 not_found" in err


@pytest.mark.parametrize("arguments", OF_ONE_MODEL)
def test_a_model_without_anything_yet_is_an_empty_table(arguments, serve, capsys):
    known = {"name": "m", "generation": 1, "champion": None}
    progress = {"measured_until": None, "requests": ()}
    serve(NOTHING | {"/v1/models/m": known, "/v1/models/m/progress": progress})
    assert run(arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


RUN = {
    "run_id": "28d996d2-cfc2-5ba3-a370-b90ba9da9c59",
    "model": "m",
    "cause": "cusum",
    "as_of": "2025-01-28T00:00:00+00:00",
    "state": "failed",
    "reason": "cooldown: the next may be from 2025-01-31T00:00:00+00:00 on " + "and on " * 30,
}


def test_away_from_a_terminal_a_row_is_one_line_however_long(serve, capsys):
    serve({"/v1/runs": [RUN]})
    assert run(["runs"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "RUN",
        "ID",
        "MODEL",
        "CAUSE",
        "AS",
        "OF",
        "STATE",
        "STAGE",
        "REASON",
    ]
    assert RUN["run_id"] in row
    assert "2025-01-28T00:00:00Z" in row
    assert "2025-01-31T00:00:00Z" in row
    assert "+00:00" not in row


async def test_a_replay_into_an_instance_that_has_a_champion_is_refused_at_once(serve):
    known = {"name": "m", "generation": 1, "champion": 4}
    serve({"/v1/models/m": known})
    async with Platform(find()) as platform:
        with pytest.raises(ClientError, match="m has a champion already; a replay needs"):
            await refuse_second(platform, ["m-frozen", "m"])
        await refuse_second(platform, ["m-frozen"])
