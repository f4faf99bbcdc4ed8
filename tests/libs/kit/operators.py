"""Two keys: `op` reads and operates, `reader` only reads."""

import hashlib
import uuid

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.kit.access import KeyRing
from gyral.testkit.projections import MemoryProjection


async def operators():
    """Return a ring with both keys."""
    keys = MemoryProjection(AccessKeyChanged)
    ring = KeyRing(keys)
    for name, scopes in (("op", {Scope.READ, Scope.OPERATE}), ("reader", {Scope.READ})):
        digest = hashlib.sha256(name.encode()).hexdigest()
        key_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        key = AccessKeyChanged(
            key_id=key_id, name=name, sha256=digest, scopes=frozenset(scopes)
        )
        await keys.put(key)
    return ring
