"""Suites that a fake and its real twin both pass."""

# ruff: noqa: D102, PLR2004, PT012 - tests, whose names are their sentences

from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest

from gyral.contracts.events import Event, Topic
from gyral.kit.offsets import Fenced
from gyral.kit.tx import Begin, Tx
from gyral.testkit.events import delivered

Published = Callable[[], Awaitable[list[tuple[str, str | None, str, int]]]]


class Happened(Event):
    """An event for tests."""

    topic: ClassVar[Topic] = Topic("test.thing.happened.v1")

    thing: str
    number: int = 0

    @property
    def key(self) -> str:
        """The thing's name."""
        return self.thing


class TxSuite:
    """What handlers rely on; a subclass provides the fixtures `begin` and `published`.

    `published()` gives (event id, causation id, correlation id, number) of what was published.
    """

    async def test_an_event_is_claimed_once(self, begin: Begin[Tx]) -> None:
        event = delivered(Happened(thing="a"))
        outcomes = []
        for _ in range(2):
            async with begin() as tx:
                outcomes.append(await tx.claim(event))
        assert outcomes == [True, False]

    async def test_a_failed_transaction_leaves_the_event_unclaimed_and_nothing_published(
        self, begin: Begin[Tx], published: Published
    ) -> None:
        event = delivered(Happened(thing="a"))
        with pytest.raises(ZeroDivisionError):
            async with begin() as tx:
                await tx.claim(event)
                await tx.publish(Happened(thing="b"))
                raise ZeroDivisionError
        async with begin() as tx:
            assert await tx.claim(event)
        assert await published() == []

    async def test_published_events_name_their_cause(
        self, begin: Begin[Tx], published: Published
    ) -> None:
        event = delivered(Happened(thing="a"), "cause-1")
        async with begin() as tx:
            await tx.claim(event)
            event_id = await tx.publish(Happened(thing="b", number=2))
        [(sent_id, causation, correlation, number)] = await published()
        assert (sent_id, causation, correlation, number) == (event_id, "cause-1", "cause-1", 2)

    async def test_a_redo_gives_the_same_ids_and_another_step_gives_others(
        self, begin: Begin[Tx], published: Published
    ) -> None:
        cause = delivered(Happened(thing="a"), "cause-2").delivery
        ids = []
        for step in ("one", "one", "two"):
            async with begin() as tx:
                tx.because(cause, step=step)
                ids.append(
                    [
                        await tx.publish(Happened(thing="b")),
                        await tx.publish(Happened(thing="c")),
                    ]
                )
        assert ids[0] == ids[1]
        assert len({*ids[0], *ids[2]}) == 4
        assert len(await published()) == 4

    async def test_an_offset_moves_only_from_where_it_is_believed_to_be(
        self, begin: Begin[Tx]
    ) -> None:
        async with begin() as tx:
            await tx.advance("sink", [("t", 0, None, 5)])
        async with begin() as tx:
            await tx.advance("sink", [("t", 0, 5, 9)])
        with pytest.raises(Fenced, match="expected to continue at 5"):
            async with begin() as tx:
                await tx.advance("sink", [("t", 0, 5, 7)])
