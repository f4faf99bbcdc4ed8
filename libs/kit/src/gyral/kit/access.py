"""Who is calling: bearer keys checked against digests, default deny."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.kit.projection import Projection

MAX_KEY_BYTES = 200


class AccessDenied(Exception):  # noqa: N818 - an answer, not a fault
    """The caller may not do this: 401 when unknown, 403 when known but not allowed.

    503 while nobody can be known yet: to be asked again.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Caller(msgspec.Struct, frozen=True, gc=False):
    """The holder of a key that was checked."""

    key_id: str
    name: str
    models: frozenset[str] | None = None
    """The models that may be asked; None: every one."""

    def check_model(self, model: str) -> None:
        """Raise AccessDenied 403 for a model that this key may not ask."""
        if self.models is not None and model not in self.models:
            raise AccessDenied(403, f"{model[:80]}: expected a key that may ask this model")


class KeyRing:
    """The keys the registry issued, found by their digest.

    A lookup by SHA-256 leaks nothing of a key of 256 random bits through its timing.
    """

    def __init__(
        self,
        keys: Projection[AccessKeyChanged],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._keys = keys
        self._by_digest: dict[bytes, AccessKeyChanged] = {}
        self._digests: dict[str, bytes] = {}
        keys.subscribe(self._changed)

    def check(self, authorization: str | bytes | None, scope: Scope) -> Caller:
        """Return who calls.

        Raises:
            AccessDenied: no key, an unknown, revoked or expired one, one without the scope, or
                the keys are not read to their end yet, when a revoked one would still do.
        """
        if self._keys.ready() is not None:
            raise AccessDenied(503, "the API keys are still being read; ask again")
        raw = authorization.encode() if isinstance(authorization, str) else authorization or b""
        kind, _, token = raw.partition(b" ")
        if kind.lower() != b"bearer" or not token or len(token) > MAX_KEY_BYTES:
            raise AccessDenied(
                401, "expected the header `Authorization: Bearer <key>`; found none"
            )
        key = self._by_digest.get(hashlib.sha256(token).digest())
        if key is None or (key.expires_at is not None and key.expires_at <= self._now()):
            raise AccessDenied(
                401, "expected a valid API key; found one that is unknown, revoked or expired"
            )
        if scope not in key.scopes and Scope.ADMIN not in key.scopes:
            raise AccessDenied(
                403, f"expected a key with scope {scope}; found {', '.join(sorted(key.scopes))}"
            )
        return Caller(key.key_id, key.name, key.models)

    def _changed(self, key_id: str, key: AccessKeyChanged | None) -> None:
        before = self._digests.pop(key_id, None)
        if before is not None:
            self._by_digest.pop(before, None)
        if key is not None and not key.revoked:
            digest = bytes.fromhex(key.sha256)
            self._digests[key_id] = digest
            self._by_digest[digest] = key
