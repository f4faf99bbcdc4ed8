"""What the deployer remembers, one transaction at a time."""

from gyral.deployer.store.overrides import OverrideTx


class DeployerTx(OverrideTx):
    """A transaction over everything the deployer owns."""
