"""Writes a small CSV of subscription renewals whose customers change their minds midway."""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

START = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = 30
ROWS_PER_DAY = 250
BLOCKED = 0.05
"""Share of customers whose logins nobody could count."""
DRIFT_DAY = 16
"""From here on a rival offers the dear plans for less: a high fee, until then a sign of
commitment, becomes the reason to leave."""
FEES = {"basic": 10.0, "plus": 25.0, "pro": 60.0}
COLUMNS = (
    "renewal_id",
    "due_at",
    "plan",
    "tenure_months",
    "monthly_fee",
    "support_tickets",
    "logins_30d",
    "decided_at",
    "churned",
)


def churn_probability(
    fee: npt.NDArray[np.float64],
    tickets: npt.NDArray[np.int64],
    logins: npt.NDArray[np.int64],
    *,
    rival: bool,
) -> npt.NDArray[np.float64]:
    """Return the chance that each customer leaves, shape (n,)."""
    logit = 0.2 + 0.8 * tickets - 0.15 * logins + (0.06 if rival else -0.04) * (fee - 25)
    chance: npt.NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return chance


def rows(seed: int) -> Iterator[tuple[object, ...]]:
    """Yield the renewals in order of time; a missing cell is empty."""
    rng = np.random.default_rng(seed)
    for day in range(DAYS):
        seconds = np.sort(rng.integers(0, 86_400, ROWS_PER_DAY))
        plans = rng.choice(list(FEES), ROWS_PER_DAY, p=[0.5, 0.3, 0.2])
        fee = np.array([FEES[plan] for plan in plans]) * rng.uniform(0.8, 1.2, ROWS_PER_DAY)
        tenure = rng.integers(1, 60, ROWS_PER_DAY)
        tickets = rng.poisson(1.0, ROWS_PER_DAY)
        logins = rng.poisson(12, ROWS_PER_DAY)
        unknown = rng.random(ROWS_PER_DAY) < BLOCKED
        chance = churn_probability(fee, tickets, logins, rival=day >= DRIFT_DAY)
        churned = rng.random(ROWS_PER_DAY) < chance
        hours = rng.integers(1, 20, ROWS_PER_DAY)
        for at in range(ROWS_PER_DAY):
            due = START + timedelta(days=day, seconds=int(seconds[at]))
            yield (
                f"r{day:02d}-{at:03d}",
                _text(due),
                plans[at],
                tenure[at],
                f"{fee[at]:.2f}",
                tickets[at],
                "" if unknown[at] else logins[at],
                _text(due + timedelta(hours=int(hours[at]))),
                int(churned[at]),
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.csv")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows(options.seed))
    print(f"{options.out}: {DAYS * ROWS_PER_DAY:,} renewals, {DAYS} days")
    return 0


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main())
