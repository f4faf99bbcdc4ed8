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


@pytest.mark.long
@pytest.mark.minio
@pytest.mark.timeout(1800)
class TestMinio(BlobSuite):
    pass


async def test_a_store_that_is_away_is_waited_for():
    away = Blobs(S3Settings("http://127.0.0.1:1", "a", SecretStr("b"), "bucket"))
    with pytest.raises(ConnectionError) as caught:
        await away.exists("k")
    assert is_infrastructure(caught.value)
