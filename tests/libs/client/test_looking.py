from itertools import count

from gyral.client.audit.looking import lasting


async def test_only_what_every_look_finds_lasts_and_as_it_was_found_last():
    looks = count(1)

    async def look():
        number = next(looks)
        passing = {f"case {number}": "of this look alone"}
        return passing | {"lasts": f"look {number}"}

    [line] = await lasting(look, patience_s=0.6)
    assert line == f"look {next(looks) - 1}"
    assert line != "look 1"


async def test_nothing_is_waited_for_when_nothing_is_found():
    looks = count(1)

    async def look():
        return {"passes": "p"} if next(looks) == 1 else {}

    assert await lasting(look, patience_s=3600) == []
    assert next(looks) == 3
