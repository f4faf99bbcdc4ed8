"""How two show each other that they know the same key, and say it to nobody."""

import hmac
from enum import Enum

NONCE_BYTES = PROOF_BYTES = 32


class Side(Enum):
    """Who shows it: what one side has shown is of no use to who plays the other."""

    GATEWAY = b"gyral data socket: gateway "
    RUNTIME = b"gyral data socket: runtime "


def proof(key: str, side: Side, runtimes: bytes, gateways: bytes) -> bytes:
    """Return what only who knows the key can say of two nonces, one of each side.

    HMAC-SHA256, RFC 2104; each proves itself over a nonce of the other's, as in ISO/IEC 9798-4.
    """
    return hmac.digest(key.encode(), side.value + runtimes + gateways, "sha256")


def proven(shown: bytes, key: str, side: Side, runtimes: bytes, gateways: bytes) -> bool:
    """Tell whether this is that proof; how long it takes tells nothing of the right one."""
    return hmac.compare_digest(shown, proof(key, side, runtimes, gateways))
