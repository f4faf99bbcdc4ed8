"""Which version gets which share of a model's requests in each state of a rollout."""

from dataclasses import dataclass

from gyral.contracts.deployment import Input, Share
from gyral.contracts.specs.model import Rollout
from gyral.deployer.domain.rollouts import Stage, State, weight


@dataclass(frozen=True, slots=True)
class Serving:
    """A version as the runtime holds it."""

    version: int
    sha256: str
    inputs: tuple[Input, ...]
    slot: str

    def share(self, weight: int, *, shadow: bool = False) -> Share:
        """Return this version's part in a route."""
        return Share(
            version=self.version,
            weight=weight,
            shadow=shadow,
            slot=self.slot,
            sha256=self.sha256,
            inputs=self.inputs,
        )


def answering(shares: tuple[Share, ...]) -> int | None:
    """Return the version that answers most requests, or None where there is no share."""
    heaviest = max(shares, key=lambda share: share.weight, default=None)
    return heaviest.version if heaviest else None


def returned(before: tuple[Share, ...], version: int) -> Share | None:
    """Return the share that answers alone once a version is taken out, or None without one.

    It is the version kept warm beside it; a shadow never is.
    """
    others = [share for share in before if share.version != version and not share.shadow]
    champion = max(others, key=lambda share: share.weight, default=None)
    return champion.model_copy(update={"weight": 100}) if champion else None


def shares(
    before: tuple[Share, ...], candidate: Serving, state: State, rules: Rollout
) -> tuple[Share, ...]:
    """Return the route's shares in this state.

    The champion's, and the candidate's while it has a part.

    The version that answered alone before stays in the route with weight 0: warm, one step
    away.

    Args:
        before: shares of the route so far, empty for a model's first version.
        candidate: the version that is rolled out.
        state: where its rollout stands.
        rules: the spec's rollout.
    """
    champion = max(
        (share for share in before if share.version != candidate.version and not share.shadow),
        key=lambda share: share.weight,
        default=None,
    )
    if champion is None:
        return (candidate.share(100),)
    if state.stage is Stage.ABORTED:
        return (champion.model_copy(update={"weight": 100}),)
    part = weight(state, rules)
    rest = champion.model_copy(update={"weight": 100 - part})
    return (rest, candidate.share(part, shadow=state.stage is Stage.SHADOW))
