"""API keys as the registry would issue them, for tests that stand in for it."""

import hashlib
import secrets
import uuid

from gyral.contracts.access import AccessKeyChanged, Scope


def an_access_key(*scopes: Scope, name: str = "tests") -> tuple[str, AccessKeyChanged]:
    """Return a new key's text and the event that makes it known."""
    text = secrets.token_urlsafe(32)
    issued = AccessKeyChanged(
        key_id=str(uuid.uuid4()),
        name=name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        scopes=frozenset(scopes),
    )
    return text, issued
