"""The object store: bytes fixed by their digest, streamed, checked at each read."""

import asyncio
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import S3Error
from pydantic import SecretStr

from gyral.contracts.names import BlobRef

CHUNK_BYTES = 1 << 20


class CorruptBlob(ValueError):
    """The bytes in the store are not those the reference names."""


class StoreSettings(Protocol):
    """What the object store needs of a service's settings."""

    @property
    def s3_endpoint(self) -> str: ...
    @property
    def s3_access_key(self) -> str: ...
    @property
    def s3_secret_key(self) -> SecretStr: ...
    @property
    def s3_bucket(self) -> str: ...


class Blobs:
    """One bucket, used from coroutines; each call runs in a thread."""

    def __init__(self, settings: StoreSettings) -> None:
        address = urlsplit(settings.s3_endpoint)
        self.bucket = settings.s3_bucket
        self._client = Minio(
            address.netloc,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=address.scheme == "https",
            region="us-east-1",
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=3, read=30),
                maxsize=16,
                retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
            ),
        )

    async def put_bytes(self, key: str, data: bytes) -> BlobRef:
        """Store bytes under a key and return their reference; again with the same bytes is harmless."""
        return await self._run(self._put, key, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())

    async def put_file(self, key: str, path: Path) -> BlobRef:
        """Store a file under a key, streaming it, and return its reference."""
        return await self._run(self._put_file, key, path)

    async def get_bytes(self, ref: BlobRef) -> bytes:
        """Return a blob's bytes.

        Raises:
            CorruptBlob: size or digest are not the reference's.
            FileNotFoundError: there is no such blob.
        """
        return await self._run(self._get, ref)

    async def get_file(self, ref: BlobRef, path: Path) -> None:
        """Write a blob to a file, whole or not at all; raises like `get_bytes`."""
        await self._run(self._get_file, ref, path)

    async def exists(self, key: str) -> bool:
        """True when something is stored under the key."""
        return await self._run(self._exists, key)

    async def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in order."""
        return await self._run(self._list, prefix)

    async def _run(self, call, *arguments):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
        """Run in a thread; the store being away is one kind of error: OSError."""
        try:
            return await asyncio.to_thread(call, *arguments)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(f"object store: {type(error).__name__}") from error
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise FileNotFoundError(f"expected a blob; found none: {error.object_name}") from error
            raise ConnectionError(f"object store: {error.code}") from error

    def _put(self, key: str, data: io.BufferedIOBase, size: int, sha256: str) -> BlobRef:
        self._client.put_object(self.bucket, key, data, size, metadata={"sha256": sha256})
        return BlobRef(key=key, sha256=sha256, size_bytes=size)

    def _put_file(self, key: str, path: Path) -> BlobRef:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            return self._put(key, file, size, sha256)

    def _get(self, ref: BlobRef) -> bytes:
        whole = io.BytesIO()
        self._stream(ref, whole)
        return whole.getvalue()

    def _get_file(self, ref: BlobRef, path: Path) -> None:
        scratch = path.with_name(f".{path.name}.part")
        with scratch.open("wb") as file:
            self._stream(ref, file)
        scratch.replace(path)

    def _stream(self, ref: BlobRef, target: io.BufferedIOBase | io.BufferedWriter) -> None:
        """Copy a blob, counting and hashing as it passes; never more than the reference allows."""
        digest, size = hashlib.sha256(), 0
        response = self._client.get_object(self.bucket, ref.key)
        try:
            for chunk in response.stream(CHUNK_BYTES):
                size += len(chunk)
                if size > ref.size_bytes:
                    break
                digest.update(chunk)
                target.write(chunk)
        finally:
            response.close()
            response.release_conn()
        if size != ref.size_bytes or digest.hexdigest() != ref.sha256:
            raise CorruptBlob(
                f"{ref.key}: expected {ref.size_bytes} bytes with sha256 {ref.sha256}; "
                f"found {size} with {digest.hexdigest()}"
            )

    def _exists(self, key: str) -> bool:
        try:
            self._client.stat_object(self.bucket, key)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                return False
            raise
        return True

    def _list(self, prefix: str) -> list[str]:
        return sorted(item.object_name for item in self._client.list_objects(self.bucket, prefix, recursive=True))


def table_options(settings: StoreSettings) -> Mapping[str, str]:
    """Return what a Delta table needs to lie in this store; commits use conditional puts."""
    return {
        "aws_endpoint": settings.s3_endpoint,
        "aws_access_key_id": settings.s3_access_key,
        "aws_secret_access_key": settings.s3_secret_key.get_secret_value(),
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
        "aws_conditional_put": "etag",
    }
