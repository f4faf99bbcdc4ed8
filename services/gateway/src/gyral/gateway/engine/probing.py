"""Whether a runtime holds a version now, found out by asking it about no rows."""

import asyncio
from collections.abc import Sequence

from gyral.contracts.deployment import Share
from gyral.gateway.engine.link import Link
from gyral.kit.frames import Batch, Frame, Kind, batch_payload


async def missing_at(links: Sequence[Link], share: Share, timeout_s: float) -> str | None:
    """Return None when all runtimes could answer, else how many could and why one could not."""
    told = await asyncio.gather(*(missing(link, share, timeout_s) for link in links))
    lacking = [why for why in told if why is not None]
    if not lacking or len(links) == 1:
        return lacking[0] if lacking else None
    holding = len(links) - len(lacking)
    return f"{holding} of {len(links)} runtimes hold it: {lacking[0]}"


async def missing(link: Link, share: Share, timeout_s: float) -> str | None:
    """Return None when the version could answer, else why it could not."""
    told: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()

    def answered(frame: Frame | None) -> None:
        if not told.done():
            told.set_result(frame)

    names = tuple(each.name for each in share.inputs)
    link.run(batch_payload(Batch(share.slot, share.sha256, names, [])), answered)
    try:
        async with asyncio.timeout(timeout_s):
            frame = await told
    except TimeoutError:
        return f"the runtime did not answer within {timeout_s:g} s"
    if frame is None:
        return "the runtime is away"
    return (
        None if frame.kind is Kind.PROBABILITIES else frame.payload.decode("utf-8", "replace")
    )
