"""Whether a runtime holds a version now, found out by asking it about no rows."""

import asyncio

from gyral.contracts.deployment import Share
from gyral.gateway.engine.link import Link
from gyral.kit.frames import Batch, Frame, Kind, batch_payload


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
