"""What the deployer remembers, one transaction at a time."""

from gyral.deployer.store.groups import GroupTx
from gyral.deployer.store.overrides import OverrideTx


class DeployerTx(OverrideTx, GroupTx):
    """A transaction over everything the deployer owns."""
