"""Blobs: bytes fixed by their digest; damaged ones are never handed out."""

import os

import pytest
from pydantic import SecretStr

from gyral.contracts.names import BlobRef
from gyral.kit.blobs import Blobs, CorruptBlob
from gyral.kit.db import is_infrastructure
from gyral.testkit.backends import S3Settings

pytestmark = pytest.mark.live


async def test_bytes_and_files_come_back_as_they_went(blobs, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(data)
    ref = await blobs.put_file("models/m/a.onnx", tmp_path / "in")
    again = await blobs.put_bytes("models/m/b.onnx", data)
    assert (
        (again.sha256, again.size_bytes)
        == (ref.sha256, ref.size_bytes)
        == (ref.sha256, 3_000_000)
    )
    assert await blobs.get_bytes(ref) == data
    await blobs.get_file(ref, tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out").read_bytes() == data
    assert await blobs.exists("models/m/a.onnx")
    assert not await blobs.exists("models/m/c.onnx")
    assert await blobs.list_keys("models/") == ["models/m/a.onnx", "models/m/b.onnx"]


@pytest.mark.parametrize("damage", [b"other bytes!", b"short", b"much longer than it was"])
async def test_other_bytes_than_the_reference_says_are_refused(damage, blobs, tmp_path):
    ref = await blobs.put_bytes("k", b"right bytes!")
    await blobs.put_bytes("k", damage)
    with pytest.raises(CorruptBlob, match=f"expected 12 bytes with sha256 {ref.sha256}"):
        await blobs.get_bytes(ref)
    with pytest.raises(CorruptBlob):
        await blobs.get_file(ref, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_blob_is_no_reason_to_wait(blobs):
    ref = BlobRef(key="nowhere", sha256="0" * 64, size_bytes=1)
    with pytest.raises(FileNotFoundError, match="expected a blob; found none") as caught:
        await blobs.get_bytes(ref)
    assert not is_infrastructure(caught.value)


async def test_a_bucket_that_is_missing_says_nothing_of_a_blob_and_is_waited_for(stack):
    ref = BlobRef(key="nowhere", sha256="0" * 64, size_bytes=1)
    with pytest.raises(ConnectionError, match="NoSuchBucket") as caught:
        await Blobs(stack.s3("never-made")).get_bytes(ref)
    assert is_infrastructure(caught.value)


async def test_a_store_that_does_not_know_us_is_waited_for(stack, blobs):
    given = stack.s3(blobs.bucket)
    ref = await blobs.put_bytes("k", b"there")
    stranger = S3Settings(given.s3_endpoint, given.s3_access_key, SecretStr("x"), blobs.bucket)
    with pytest.raises(ConnectionError) as caught:
        await Blobs(stranger).get_bytes(ref)
    assert is_infrastructure(caught.value)


async def test_a_store_that_is_away_is_waited_for():
    away = Blobs(S3Settings("http://127.0.0.1:1", "a", SecretStr("b"), "bucket"))
    with pytest.raises(ConnectionError) as caught:
        await away.exists("k")
    assert is_infrastructure(caught.value)
