"""What the registry does at its start: issue the first key."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.kit.tx import Begin
from gyral.registry.domain.keys import digest
from gyral.registry.store import RegistryTx
from gyral.registry.store.specs import Key

_ADMIN_KEYS = uuid.UUID("3f2a5b84-9a43-5f5e-8a59-6d5a1f0a7c11")


@dataclass(frozen=True, slots=True)
class FirstKey:
    """Makes the operator's first key known; the same key at every start is the same row."""

    begin: Begin[RegistryTx]
    secret: str
    now: Callable[[], datetime]

    async def issue(self) -> None:
        """Keep and publish the key's digest, once."""
        sha256 = digest(self.secret)
        key = Key(
            key_id=str(uuid.uuid5(_ADMIN_KEYS, sha256)),
            name="admin",
            generation=1,
            sha256=sha256,
            scopes=(Scope.ADMIN,),
            models=None,
            expires_at=None,
            revoked=False,
        )
        async with self.begin() as tx:
            if not await tx.add_key(key, now=self.now()):
                return
            await tx.publish(
                AccessKeyChanged(
                    key_id=key.key_id,
                    name=key.name,
                    sha256=sha256,
                    scopes=frozenset(key.scopes),
                )
            )
            await tx.audit(
                now=self.now(),
                actor="registry",
                action="key.issued",
                subject=key.key_id,
                reason="first key of the instance",
                change={"name": key.name, "scopes": ["admin"]},
            )
