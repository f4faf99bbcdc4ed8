"""Suites that a fake and its real twin both pass."""

# ruff: noqa: D102, PLR2004, PT012 - tests, whose names are their sentences

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Protocol

import pytest
from pydantic import SecretStr

from gyral.contracts.events import Event, Topic
from gyral.contracts.names import BlobRef
from gyral.kit.blobs import Blobs, CorruptBlob
from gyral.kit.db import is_infrastructure
from gyral.kit.offsets import Fenced
from gyral.kit.tx import Begin, Tx
from gyral.testkit.backends import S3Settings
from gyral.testkit.events import delivered
from gyral.testkit.sinks import SinkTx
from gyral.testkit.waiting import until

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


class SinkStore(Protocol):
    """A sink's database as the suite looks at it."""

    @property
    def begin(self) -> Begin[SinkTx]:
        """Opens its transactions."""

    async def stored(self) -> int | None:
        """Return the offset of sink `s`, topic `t`, partition 0."""

    async def output(self) -> list[str]:
        """Return what was written, in order."""

    async def waits(self) -> bool:
        """Tell whether a transaction waits for another."""


class SinkSuite:
    """What a sink relies on; a subclass provides the fixture `store`."""

    async def test_output_and_offset_move_together(self, store: SinkStore) -> None:
        assert await store.stored() is None
        async with store.begin() as tx:
            await tx.advance("s", [("t", 0, None, 2)])
            await tx.write(["a", "b"])
        assert (await store.stored(), await store.output()) == (2, ["a", "b"])

    async def test_what_fails_leaves_neither(self, store: SinkStore) -> None:
        with pytest.raises(ZeroDivisionError):
            async with store.begin() as tx:
                await tx.advance("s", [("t", 0, None, 2)])
                await tx.write(["a", "b"])
                raise ZeroDivisionError
        assert (await store.stored(), await store.output()) == (None, [])

    async def test_the_slower_of_two_waits_and_is_fenced(self, store: SinkStore) -> None:
        async with store.begin() as tx:
            await tx.advance("s", [("t", 0, None, 2)])
            slower = asyncio.create_task(self._write(store, "b"))
            await until(store.waits)
            await tx.write(["a"])
        with pytest.raises(Fenced, match="expected to continue at None"):
            await slower
        assert (await store.stored(), await store.output()) == (2, ["a"])

    async def test_who_waited_for_one_that_failed_goes_on(self, store: SinkStore) -> None:
        with pytest.raises(ZeroDivisionError):
            async with store.begin() as tx:
                await tx.advance("s", [("t", 0, None, 2)])
                slower = asyncio.create_task(self._write(store, "b"))
                await until(store.waits)
                raise ZeroDivisionError
        await slower
        assert (await store.stored(), await store.output()) == (2, ["b"])

    async def test_what_is_cancelled_leaves_nothing(self, store: SinkStore) -> None:
        reached = asyncio.Event()

        async def hold() -> None:
            async with store.begin() as tx:
                await tx.advance("s", [("t", 0, None, 2)])
                await tx.write(["a"])
                reached.set()
                await asyncio.Event().wait()

        held = asyncio.create_task(hold())
        await reached.wait()
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        await self._write(store, "b")
        assert (await store.stored(), await store.output()) == (2, ["b"])

    async def _write(self, store: SinkStore, row: str) -> None:
        async with store.begin() as tx:
            await tx.advance("s", [("t", 0, None, 2)])
            await tx.write([row])


class BlobSuite:
    """What services rely on of an object store; `blobs` is an empty bucket in it."""

    async def test_bytes_and_files_come_back_as_they_went(
        self, blobs: Blobs, tmp_path: Path
    ) -> None:
        data = os.urandom(3_000_000)
        (tmp_path / "in").write_bytes(data)
        ref = await blobs.put_file("models/m/a.onnx", tmp_path / "in")
        again = await blobs.put_bytes("models/m/b.onnx", data)
        assert (again.sha256, again.size_bytes) == (ref.sha256, 3_000_000)
        assert ref.size_bytes == 3_000_000
        assert await blobs.get_bytes(ref) == data
        await blobs.get_file(ref, tmp_path / "deep" / "out")
        assert (tmp_path / "deep" / "out").read_bytes() == data

    async def test_keys_are_found_listed_in_order_and_removed(self, blobs: Blobs) -> None:
        for key in ("m/b", "m/a", "m/sub.d/e-f_g", "n/c"):
            await blobs.put_bytes(key, b"x")
        assert await blobs.exists("m/a")
        assert not await blobs.exists("m/c")
        assert await blobs.list_keys("m/") == ["m/a", "m/b", "m/sub.d/e-f_g"]
        await blobs.remove("m/a")
        await blobs.remove("m/never was")
        assert await blobs.list_keys("") == ["m/b", "m/sub.d/e-f_g", "n/c"]

    async def test_the_last_bytes_under_a_key_count(self, blobs: Blobs) -> None:
        await blobs.put_bytes("k", b"first")
        ref = await blobs.put_bytes("k", b"")
        assert await blobs.get_bytes(ref) == b""

    @pytest.mark.parametrize("damage", [b"other bytes!", b"short", b"much longer than it was"])
    async def test_other_bytes_than_the_reference_says_are_refused(
        self, damage: bytes, blobs: Blobs, tmp_path: Path
    ) -> None:
        ref = await blobs.put_bytes("k", b"right bytes!")
        await blobs.put_bytes("k", damage)
        with pytest.raises(CorruptBlob, match=f"expected 12 bytes with sha256 {ref.sha256}"):
            await blobs.get_bytes(ref)
        with pytest.raises(CorruptBlob):
            await blobs.get_file(ref, tmp_path / "out")
        assert os.listdir(tmp_path) == []  # noqa: PTH208 - a path would block, says the linter

    async def test_a_missing_blob_is_no_reason_to_wait(self, blobs: Blobs) -> None:
        ref = BlobRef(key="nowhere", sha256="0" * 64, size_bytes=1)
        with pytest.raises(FileNotFoundError, match="expected a blob; found none") as caught:
            await blobs.get_bytes(ref)
        assert not is_infrastructure(caught.value)

    async def test_a_bucket_that_is_missing_says_nothing_of_a_blob_and_is_waited_for(
        self, object_store: S3Settings
    ) -> None:
        ref = BlobRef(key="nowhere", sha256="0" * 64, size_bytes=1)
        with pytest.raises(ConnectionError, match="NoSuchBucket") as caught:
            await Blobs(replace(object_store, s3_bucket="never-made")).get_bytes(ref)
        assert is_infrastructure(caught.value)

    async def test_a_store_that_does_not_know_us_is_waited_for(
        self, object_store: S3Settings, blobs: Blobs
    ) -> None:
        ref = await blobs.put_bytes("k", b"there")
        ours = replace(object_store, s3_bucket=blobs.bucket)
        with pytest.raises(ConnectionError) as caught:
            await Blobs(replace(ours, s3_secret_key=SecretStr("x"))).get_bytes(ref)
        assert is_infrastructure(caught.value)
