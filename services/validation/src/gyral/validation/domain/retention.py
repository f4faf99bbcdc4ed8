"""Until when rows are kept: behind the watermark, in steps that rarely touch a file."""

_STEPS = 32
"""A row is kept for its retention, and at most for one of so many parts of it longer."""


def kept_from_us(watermark_us: int | None, retention_us: int) -> int | None:
    """Return the event time before which rows may go, or None when none may.

    It moves in steps, so that files at its edge are written again only once a step.
    """
    if watermark_us is None:
        return None
    step_us = max(1, retention_us // _STEPS)
    edge_us = (watermark_us - retention_us) // step_us * step_us
    return edge_us if edge_us > 0 else None
