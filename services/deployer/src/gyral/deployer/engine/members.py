"""What pods tell of the runtimes in them."""

from kubernetes_asyncio import client as k8s

from gyral.deployer.engine.backend import Flavour, Member
from gyral.deployer.engine.workloads import CONTROL_PORT, DATA_PORT, FLAVOUR, GROUP


def group_of(metadata: k8s.V1ObjectMeta) -> str | None:
    """Return the group that an object is of; None where the deployer did not make it."""
    group: str | None = (metadata.annotations or {}).get(GROUP)
    return group


def age(pod: k8s.V1Pod) -> tuple[float, str]:
    """Return what pods are sorted by, the oldest first."""
    return pod.metadata.creation_timestamp.timestamp(), pod.metadata.name


def member_of(pod: k8s.V1Pod) -> Member | None:
    """Return a pod as a member, or None before it has an address and once it is to end.

    One that is to end answers for a while, in which routes cease to name it.
    """
    ip: str | None = pod.status.pod_ip
    leaving = pod.metadata.deletion_timestamp is not None
    if not ip or leaving or pod.status.phase in ("Succeeded", "Failed"):
        return None
    host = f"[{ip}]" if ":" in ip else ip
    ready = any(
        each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ()
    )
    return Member(
        name=pod.metadata.name,
        control=f"http://{host}:{CONTROL_PORT}",
        data=f"tcp:{host}:{DATA_PORT}",
        ready=ready,
        flavour=_flavour_of(pod),
    )


def _flavour_of(pod: k8s.V1Pod) -> Flavour | None:
    """Return what a pod's runtime was told to compute; None where that is nothing we know."""
    told = {each.name: each.value for each in pod.spec.containers[0].env or ()}
    return next((flavour for flavour in Flavour if flavour == told.get(FLAVOUR)), None)
