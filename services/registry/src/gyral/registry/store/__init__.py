"""What the registry remembers, one transaction at a time."""

from gyral.registry.store.declarations import DeclarationTx


class RegistryTx(DeclarationTx):
    """A transaction over everything the registry owns."""
