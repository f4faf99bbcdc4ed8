"""The object store: bytes under a key, fixed by their digest, verified at each read."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from pydantic import SecretStr

from gyral.contracts.names import BlobRef

R = TypeVar("R")
_CHUNK = 1 << 20
_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "NoSuchBucket"})
_BUSY = frozenset({"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"})


class BlobsAway(ConnectionError):
    """The object store does not answer: wait and try again."""


class BlobMissing(LookupError):  # noqa: N818 - a fact about the store
    """There is nothing under this key."""


class BlobCorrupt(ValueError):  # noqa: N818 - a fact about the bytes
    """The bytes under this key are not those the reference was made of."""


class S3Settings(Protocol):
    """The settings that lead to the object store."""

    @property
    def s3_endpoint(self) -> str: ...
    @property
    def s3_access_key(self) -> str: ...
    @property
    def s3_secret_key(self) -> SecretStr: ...
    @property
    def s3_bucket(self) -> str: ...


class Blobs:
    """One bucket; all calls run in threads and stream."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str, bucket: str) -> None:
        address = urlsplit(endpoint)
        self.bucket = bucket
        self._minio = Minio(
            address.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=address.scheme == "https",
            region="us-east-1",
            http_client=urllib3.PoolManager(
                maxsize=16,
                timeout=urllib3.Timeout(connect=3, read=30),
                retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504)),
            ),
        )

    @classmethod
    def of(cls, settings: S3Settings) -> "Blobs":
        """Return the bucket the settings name; connects at the first call."""
        return cls(
            settings.s3_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key.get_secret_value(),
            settings.s3_bucket,
        )

    async def put_bytes(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> BlobRef:
        """Store bytes and return the reference that pins them."""
        ref = BlobRef(key=key, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        await _in_thread(
            lambda: self._minio.put_object(self.bucket, key, io.BytesIO(data), len(data), content_type=content_type)
        )
        return ref

    async def put_file(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> BlobRef:
        """Store a file and return the reference that pins it."""

        def upload() -> BlobRef:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
                file.seek(0)
                self._minio.put_object(self.bucket, key, file, size, content_type=content_type)
            return BlobRef(key=key, sha256=digest, size_bytes=size)

        return await _in_thread(upload)

    async def get_bytes(self, ref: BlobRef, *, max_bytes: int = 64 << 20) -> bytes:
        """Return the referenced bytes.

        Raises:
            BlobMissing: nothing is there.
            BlobCorrupt: size or digest differ, or the reference exceeds `max_bytes`.
        """
        if ref.size_bytes > max_bytes:
            raise BlobCorrupt(f"{ref.key}: expected at most {max_bytes} bytes; found {ref.size_bytes}")
        return await _in_thread(lambda: b"".join(self._verified(ref)))

    async def get_file(self, ref: BlobRef, path: Path) -> None:
        """Write the referenced bytes to a file, which appears only once they are verified.

        Raises:
            BlobMissing: nothing is there.
            BlobCorrupt: size or digest differ.
        """

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
        """Tell whether there is anything under a key."""
        try:
            await _in_thread(lambda: self._minio.stat_object(self.bucket, key))
        except BlobMissing:
            return False
        return True

    async def list(self, prefix: str) -> tuple[str, ...]:
        """Return all keys that begin so."""
        return await _in_thread(
            lambda: tuple(
                str(entry.object_name)
                for entry in self._minio.list_objects(self.bucket, prefix=prefix, recursive=True)
            )
        )

    async def remove(self, key: str) -> None:
        """Delete what is under a key, if anything."""
        await _in_thread(lambda: self._minio.remove_object(self.bucket, key))

    async def ensure_bucket(self) -> None:
        """Make the bucket when it is missing; for the provision job and tests."""

        def ensure() -> None:
            if not self._minio.bucket_exists(self.bucket):
                self._minio.make_bucket(self.bucket)

        await _in_thread(ensure)

    def _verified(self, ref: BlobRef) -> Iterator[bytes]:
        digest = hashlib.sha256()
        size = 0
        response = self._minio.get_object(self.bucket, ref.key)
        try:
            for chunk in response.stream(_CHUNK):
                size += len(chunk)
                if size > ref.size_bytes:
                    raise BlobCorrupt(f"{ref.key}: expected {ref.size_bytes} bytes; found more")
                digest.update(chunk)
                yield chunk
        finally:
            response.close()
            response.release_conn()
        if size != ref.size_bytes or digest.hexdigest() != ref.sha256:
            raise BlobCorrupt(
                f"{ref.key}: expected {ref.size_bytes} bytes of sha256 {ref.sha256};"
                f" found {size} of {digest.hexdigest()}"
            )


def s3_storage_options(settings: S3Settings) -> dict[str, str]:
    """Return what deltalake needs to keep a table in the bucket: path style, and puts that refuse to overwrite."""
    return {
        "AWS_ENDPOINT_URL": settings.s3_endpoint,
        "AWS_ACCESS_KEY_ID": settings.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key.get_secret_value(),
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        "aws_conditional_put": "etag",
    }


async def _in_thread(call: Callable[[], R]) -> R:
    try:
        return await asyncio.to_thread(call)
    except S3Error as error:
        if error.code in _MISSING:
            raise BlobMissing(f"{error.bucket_name}/{error.object_name}: nothing there ({error.code})") from error
        if error.code in _BUSY:
            raise BlobsAway(f"object store: {error.code}") from error
        raise
    except (ServerError, InvalidResponseError, urllib3.exceptions.HTTPError) as error:
        raise BlobsAway(f"object store: {type(error).__name__}: {error}"[:300]) from error
