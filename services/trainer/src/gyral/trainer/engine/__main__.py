"""The training process: `python -m gyral.trainer.engine [ORDERFILE]`, else told on stdin."""

import os
import resource
import sys
import threading
import warnings
from pathlib import Path
from typing import TextIO

from gyral.kit.threads import require_single_threaded
from gyral.trainer.engine.order import Done, Order, Progress, Refused, TrainingRefusedError


def main(arguments: list[str]) -> int:
    """Train as ordered, and say on standard output how far it is and what came out."""
    require_single_threaded()
    with _protocol() as lines:
        return _train(arguments, lines)


def _train(arguments: list[str], lines: TextIO) -> int:
    # Imported before the order is read: a spare process waits with its imports done.
    from gyral.modelling.columns import ColumnError  # noqa: PLC0415
    from gyral.modelling.labels import LabelError  # noqa: PLC0415
    from gyral.trainer.domain.splits import SplitError  # noqa: PLC0415
    from gyral.trainer.engine.apart import ApartError  # noqa: PLC0415
    from gyral.trainer.engine.training import train  # noqa: PLC0415

    path = arguments[0] if arguments else sys.stdin.readline().strip()
    if not path:
        return 0
    if not arguments:
        threading.Thread(target=_die_with_parent, daemon=True).start()
    order = Order.model_validate_json(Path(path).read_bytes())
    if order.memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (order.memory_bytes, order.memory_bytes))
    try:
        _say(lines, train(order, lambda progress: _say(lines, progress)))
    except (TrainingRefusedError, ApartError, SplitError, ColumnError, LabelError) as error:
        _say(lines, Refused(reason=str(error)[:500]))
    return 0


def _die_with_parent() -> None:
    """End at once when standard input does: whoever ordered this is gone."""
    sys.stdin.read()
    os._exit(1)


def _protocol() -> TextIO:
    """Keep standard output for the protocol; what libraries print goes to standard error."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("default")
    return lines


def _say(lines: TextIO, message: Progress | Done | Refused) -> None:
    lines.write(message.model_dump_json() + "\n")
    lines.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
