"""API keys: made of 256 random bits, shown once, kept as a digest."""

import base64
import hashlib
from dataclasses import dataclass

KEY_BYTES = 32
PREFIX = "gyral_"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key: the text its holder sees once, and the digest that is kept."""

    text: str
    sha256: str


def issue(entropy: bytes) -> IssuedKey:
    """Return the key that these random bytes make.

    Raises:
        ValueError: there are not exactly 32 bytes.
    """
    if len(entropy) != KEY_BYTES:
        raise ValueError(f"expected {KEY_BYTES} random bytes; found {len(entropy)}")
    text = PREFIX + base64.urlsafe_b64encode(entropy).decode().rstrip("=")
    return IssuedKey(text, digest(text))


def digest(text: str) -> str:
    """Return the SHA-256, in hex, under which a key is kept and looked up."""
    return hashlib.sha256(text.encode()).hexdigest()
