"""The object store: bytes fixed by their digest, streamed, checked at each read."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from pydantic import SecretStr

from gyral.contracts.names import BlobRef

R = TypeVar("R")
_CHUNK_BYTES = 1 << 20
_MISSING = frozenset({"NoSuchKey", "NoSuchObject"})
_AWAY = frozenset(
    {
        "InternalError",
        "ServiceUnavailable",
        "SlowDown",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        # Nothing is known of the blob itself before the bucket or our key is put right.
        "NoSuchBucket",
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
    }
)


class CorruptBlob(ValueError):  # noqa: N818 - a fact about the bytes
    """The bytes in the store are not those the reference names."""


class StoreSettings(Protocol):
    """What the object store needs of a service's settings."""

    @property
    def s3_endpoint(self) -> str:
        """Where it listens."""

    @property
    def s3_access_key(self) -> str:
        """Who we are."""

    @property
    def s3_secret_key(self) -> SecretStr:
        """Our proof."""

    @property
    def s3_bucket(self) -> str:
        """The one bucket."""


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
                retries=urllib3.Retry(
                    total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]
                ),
            ),
        )

    async def put_bytes(self, key: str, data: bytes) -> BlobRef:
        """Store bytes and return their reference; again with the same bytes is harmless."""
        sha256 = hashlib.sha256(data).hexdigest()
        return await _in_thread(lambda: self._put(key, io.BytesIO(data), len(data), sha256))

    async def put_file(self, key: str, path: Path) -> BlobRef:
        """Store a file, streaming it, and return its reference."""

        def upload() -> BlobRef:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
                file.seek(0)
                return self._put(key, file, size, sha256)

        return await _in_thread(upload)

    async def get_bytes(self, ref: BlobRef) -> bytes:
        """Return a blob's bytes.

        Raises:
            CorruptBlob: size or digest are not the reference's.
            FileNotFoundError: there is no such blob.
        """
        return await _in_thread(lambda: b"".join(self._verified(ref)))

    async def get_file(self, ref: BlobRef, path: Path) -> None:
        """Write a blob to a file, whole or not at all; raises like `get_bytes`."""

        def download() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_name(f".{path.name}.part")
            try:
                with scratch.open("wb") as file:
                    file.writelines(self._verified(ref))
                scratch.replace(path)
            finally:
                scratch.unlink(missing_ok=True)

        await _in_thread(download)

    async def exists(self, key: str) -> bool:
        """Tell whether something is stored under the key."""
        try:
            await _in_thread(lambda: self._client.stat_object(self.bucket, key))
        except FileNotFoundError:
            return False
        return True

    async def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in order."""
        return await _in_thread(
            lambda: sorted(
                str(item.object_name)
                for item in self._client.list_objects(self.bucket, prefix, recursive=True)
            )
        )

    async def remove(self, key: str) -> None:
        """Delete what is under a key, if anything."""
        await _in_thread(lambda: self._client.remove_object(self.bucket, key))

    async def ensure_bucket(self) -> None:
        """Make the bucket when it is missing; for provisioning and tests."""

        def ensure() -> None:
            if not self._client.bucket_exists(self.bucket):
                self._client.make_bucket(self.bucket)

        await _in_thread(ensure)

    def _put(self, key: str, data: io.BufferedIOBase, size: int, sha256: str) -> BlobRef:
        self._client.put_object(
            self.bucket,
            key,
            data,  # type: ignore[arg-type] # any readable does
            size,
            metadata={"sha256": sha256},
        )
        return BlobRef(key=key, sha256=sha256, size_bytes=size)

    def _verified(self, ref: BlobRef) -> Iterator[bytes]:
        """Yield a blob's bytes, counted and hashed as they pass; never more than expected."""
        digest, size = hashlib.sha256(), 0
        response = self._client.get_object(self.bucket, ref.key)
        try:
            for chunk in response.stream(_CHUNK_BYTES):
                size += len(chunk)
                if size > ref.size_bytes:
                    break
                digest.update(chunk)
                yield chunk
        finally:
            response.close()
            response.release_conn()
        if size != ref.size_bytes or digest.hexdigest() != ref.sha256:
            found = f"{size} with {digest.hexdigest()}" if size <= ref.size_bytes else "more"
            raise CorruptBlob(
                f"{ref.key}: expected {ref.size_bytes} bytes with sha256 {ref.sha256};"
                f" found {found}"
            )


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


async def _in_thread(call: Callable[[], R]) -> R:
    """Run in a thread; the store being away is one kind of error, ConnectionError."""
    try:
        return await asyncio.to_thread(call)
    except S3Error as error:
        if error.code in _MISSING:
            where = f"{error.bucket_name}/{error.object_name}"
            raise FileNotFoundError(f"{where}: expected a blob; found none") from error
        if error.code in _AWAY:
            raise ConnectionError(f"object store: {error.code}") from error
        raise
    except (ServerError, InvalidResponseError, urllib3.exceptions.HTTPError) as error:
        raise ConnectionError(f"object store: {type(error).__name__}") from error
