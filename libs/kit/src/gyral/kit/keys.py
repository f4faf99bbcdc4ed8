"""Who may call: bearer keys checked against what the registry published."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import ClassVar

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.kit.projection import Projection

_MAX_BEARER = 512


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The caller may not; `status`, `code` and the text are the answer."""

    status: ClassVar[int] = HTTPStatus.FORBIDDEN
    code: ClassVar[str] = "refused"


class Unauthenticated(Refused):
    """No key, or none that is known and valid."""

    status: ClassVar[int] = HTTPStatus.UNAUTHORIZED
    code: ClassVar[str] = "unauthenticated"


class Forbidden(Refused):
    """The key is known and lacks the scope."""

    status: ClassVar[int] = HTTPStatus.FORBIDDEN
    code: ClassVar[str] = "forbidden"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key a request carried; the name is for audit logs."""

    key_id: str
    name: str
    scopes: frozenset[Scope]


class KeyRing:
    """The keys of a projection, looked up by digest: the secret itself is never kept."""

    def __init__(
        self, keys: Projection[AccessKeyChanged], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._now = now
        self._by_digest: dict[str, AccessKeyChanged] = {}
        self._digest_of: dict[str, str] = {}
        keys.subscribe(self.changed)

    def changed(self, key_id: str, event: AccessKeyChanged | None) -> None:
        """Take over a key's new state; None forgets it."""
        before = self._digest_of.pop(key_id, None)
        if before is not None:
            self._by_digest.pop(before, None)
        if event is not None and not event.revoked:
            self._by_digest[event.sha256] = event
            self._digest_of[key_id] = event.sha256

    def check(self, authorization: str | bytes | None, scope: Scope) -> Caller:
        """Return whose key an Authorization header holds.

        Raises:
            Unauthenticated: it is missing, malformed, unknown, revoked or expired; the text never says which key.
            Forbidden: the key lacks the scope.
        """
        key = self._find(_bearer(authorization))
        if key.expires_at is not None and key.expires_at <= self._now():
            raise Unauthenticated(f"the key expired at {key.expires_at.isoformat()}; ask for a new one")
        if scope not in key.scopes and Scope.ADMIN not in key.scopes:
            held = ", ".join(sorted(key.scopes)) or "none"
            raise Forbidden(f"expected a key with scope {scope}; found {held}")
        return Caller(key.key_id, key.name, key.scopes)

    def _find(self, secret: str) -> AccessKeyChanged:
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest):
            raise Unauthenticated("the key is unknown or revoked")
        return key


def digest_of(secret: str) -> str:
    """Return the hex SHA-256 by which a key is known."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _bearer(authorization: str | bytes | None) -> str:
    if not authorization:
        raise Unauthenticated("expected the header `Authorization: Bearer <key>`; found none")
    text = authorization.decode("latin-1") if isinstance(authorization, bytes) else authorization
    scheme, _, secret = text.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret or len(secret) > _MAX_BEARER:
        raise Unauthenticated("expected the header `Authorization: Bearer <key>`; found another form")
    return secret
