"""Blobs: bytes fixed by their digest; damaged ones are never handed out, by either server."""

import pytest
from pydantic import SecretStr

from gyral.kit.blobs import Blobs
from gyral.kit.db import is_infrastructure
from gyral.testkit.backends import S3Settings
from gyral.testkit.suites import BlobSuite


@pytest.mark.live
class TestS3Proxy(BlobSuite):
    pass


@pytest.mark.minio
@pytest.mark.timeout(1800)
class TestMinio(BlobSuite):
    pass


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
