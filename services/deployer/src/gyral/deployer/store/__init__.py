"""What the deployer remembers, one transaction at a time."""

from gyral.deployer.store.transitions import TransitionTx


class DeployerTx(TransitionTx):
    """A transaction over everything the deployer owns."""
