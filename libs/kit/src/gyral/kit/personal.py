"""Keeps who a row is about apart from it: pseudonyms, the door's seal, encrypted parking."""

import hmac
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field, SecretStr

from gyral.contracts.batches import BATCH_HEADERS
from gyral.kit.db import Pool
from gyral.kit.health import UnstartableError

SEAL = "gyral-seal"
"""Header by which the door vouches that nothing personal is left in a record."""
PSEUDONYM = r"^[A-Za-z0-9_-]{32}$"
PersonalSecret = Annotated[SecretStr, Field(min_length=32)]
"""At least 32 characters nobody can guess: `secrets.token_urlsafe(32)`."""
_COVERED = frozenset({"ce_type", *BATCH_HEADERS})
"""Headers that say how a record's bytes are to be read."""
_PSEUDONYM_BYTES = 24
_KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"
_STREAMS = 256
_SALT = b"gyral personal data, version 1"


class UnreadableError(ValueError):
    """The bytes were encrypted under another secret, for another place, or changed since."""


class PersonalKeys:
    """The keys that one secret of the platform stands for, each for one purpose."""

    def __init__(self, secret: SecretStr) -> None:
        self._secret = secret.get_secret_value().encode()
        self._subjects = self._derived("pseudonyms")
        self._door = self._derived("seals")
        self._claims = self._derived("claims")
        self._cipher = lru_cache(maxsize=_STREAMS)(self._cipher_of)

    @property
    def fingerprint(self) -> str:
        """What tells one secret from another and nothing else about it."""
        return self._derived("fingerprint").hex()

    def pseudonym(self, text: str) -> str:
        """Return what stands for a text in every stream: 32 letters, digits, `-` and `_`.

        The first 192 bits of HMAC-SHA-256, in base64url.
        """
        mac = hmac.digest(self._subjects, text.encode(), "sha256")
        return urlsafe_b64encode(mac[:_PSEUDONYM_BYTES]).decode()

    def claim(self, digest: bytes) -> bytes:
        """Return a body's digest such that nobody can look for bodies that have it."""
        return hmac.digest(self._claims, digest, "sha256")

    def seal(self, headers: Iterable[tuple[str, bytes | None]], value: bytes) -> bytes:
        """Return the seal of a record with these headers."""
        told = sorted((name, text or b"") for name, text in headers if name in _COVERED)
        parts = [part for name, text in told for part in (name.encode(), text)]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in [*parts, value])
        return urlsafe_b64encode(hmac.digest(self._door, message, "sha256"))

    def is_sealed(self, headers: Iterable[tuple[str, bytes | None]], value: bytes) -> bool:
        """Tell whether the door, or validation after it, wrote this very record."""
        given = list(headers)
        found = [text for name, text in given if name == SEAL]
        return (
            len(found) == 1
            and found[0] is not None
            and hmac.compare_digest(found[0], self.seal(given, value))
        )

    def encrypt(self, stream: str, place: str, plain: bytes) -> bytes:
        """Return bytes that only this platform can read, as those of this place in a stream."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher(stream).encrypt(nonce, plain, place.encode())

    def decrypt(self, stream: str, place: str, held: bytes) -> bytes:
        """Return what was encrypted.

        Raises:
            UnreadableError: they are no such bytes.
        """
        version, nonce, sealed = held[:1], held[1 : 1 + _NONCE_BYTES], held[1 + _NONCE_BYTES :]
        try:
            if version == _VERSION:
                return self._cipher(stream).decrypt(nonce, sealed, place.encode())
        except (InvalidTag, ValueError) as error:
            raise UnreadableError(f"{place}: expected bytes of stream {stream!r}") from error
        raise UnreadableError(f"{place}: expected bytes of version 1; found {version.hex()!r}")

    def _cipher_of(self, stream: str) -> AESGCM:
        return AESGCM(self._derived(f"parked/{stream}"))

    def _derived(self, purpose: str) -> bytes:
        """Return the key of one purpose, by HKDF (RFC 5869)."""
        key: bytes = HKDF(SHA256(), _KEY_BYTES, _SALT, purpose.encode()).derive(self._secret)
        return key


async def require_the_same(pool: Pool, keys: PersonalKeys) -> None:
    """Remember the first secret a service has, and end a process that comes with another.

    Under another secret every pseudonym would be another one, and nothing parked be readable.

    Raises:
        UnstartableError: it is not the first one.
    """
    await pool.execute(
        "INSERT INTO personal_key (fingerprint) VALUES ($1) ON CONFLICT DO NOTHING",
        keys.fingerprint,
    )
    if await pool.fetchval("SELECT fingerprint FROM personal_key") != keys.fingerprint:
        raise UnstartableError(
            "PERSONAL_SECRET: expected the secret this database was first used with; found"
            " another: bring it back, for what it made cannot be made anew"
        )
