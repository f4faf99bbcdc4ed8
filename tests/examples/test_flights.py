"""The flights of the demo: in order, unique, and never wiser than their hour."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from examples.flights import prepare
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import FieldType, StreamSpec
from gyral.modelling.features import FeatureKind, FeatureSpec
from gyral.modelling.profile import BlockHistograms

SPECS = Path(prepare.__file__).parent
DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return prepare.build(prepare.data_folder())


def spec(name: str) -> str:
    return json.dumps(yaml.safe_load((SPECS / name).read_text()))


def stream(name: str) -> StreamSpec:
    return StreamSpec.model_validate_json(spec(f"{name}.stream.yaml"))


def model() -> ModelSpec:
    return ModelSpec.model_validate_json(spec("flight-delay.model.yaml"))


def test_the_year_is_whole_unique_and_in_order(year):
    assert len(year) == 336_776
    assert year["flight_id"].is_unique
    assert year["scheduled_departure"].is_monotonic_increasing
    assert "2013-01-01-UA-1545-EWR-0515" in set(year["flight_id"])


def test_a_cancelled_or_diverted_flight_has_no_label(year):
    assert year["arrival_delay_min"].isna().sum() == 9_430
    assert (year["arrival_delay_min"].isna() == year["label_known_at"].isna()).all()


def test_a_label_is_known_after_departure_and_all_but_one_within_a_day(year):
    lag = (year["label_known_at"] - year["scheduled_departure"]).dropna()
    assert lag.min() > pd.Timedelta(0)
    assert (lag > DAY).sum() == 1


def test_departures_are_local_times_of_new_york_also_across_the_change_of_clocks(year):
    local = year["scheduled_departure"].dt.tz_convert("America/New_York")
    assert (local.dt.hour + local.dt.minute / 60 == year["hour"]).all()
    assert (local.dt.day_of_week == year["weekday"]).all()
    assert (local.dt.strftime("%Y-%m-%d") == year["flight_id"].str[:10]).all()


@pytest.mark.parametrize("rate", prepare.RATES)
def test_a_rate_counts_exactly_the_labels_known_by_departure(year, rate):
    group, hours = prepare.RATES[rate]
    known, late = year["label_known_at"], year["arrival_delay_min"] > prepare.LATE_AFTER_MIN
    for row in year.sample(25, random_state=1).itertuples():
        now = row.scheduled_departure
        counted = (known <= now) & (known > now - pd.Timedelta(hours=hours))
        if group is not None:
            counted &= year[group] == getattr(row, group)
        expected = (late[counted].sum() + 20 * 0.24) / (counted.sum() + 20)
        assert getattr(row, rate) == pytest.approx(expected, abs=1e-12)


def test_a_rate_does_not_move_when_the_future_does(year):
    now = pd.Timestamp("2013-02-01T18:00Z")
    fortnight = year[year["scheduled_departure"].between(now - 7 * DAY, now + 7 * DAY)]
    fortnight = fortnight.reset_index(drop=True)
    future = fortnight["label_known_at"] > now
    delay = fortnight["arrival_delay_min"].mask(future, 999)
    other = fortnight.assign(arrival_delay_min=delay)
    past = fortnight["scheduled_departure"] <= now
    for group, hours in prepare.RATES.values():
        before = prepare.delay_rates(fortnight, group, hours)
        after = prepare.delay_rates(other, group, hours)
        assert (before[past] == after[past]).all()
        assert (before[~past] != after[~past]).any()


def test_the_weather_is_that_of_the_hour_before(year):
    observed = pd.read_csv(prepare.data_folder() / "weather.csv")
    at = pd.to_datetime(observed["time_hour"], utc=True)
    for row in year[year["temp_f"].notna()].sample(50, random_state=2).itertuples():
        hour_before = row.scheduled_departure.floor("h") - pd.Timedelta(hours=1)
        [found] = observed[
            (observed["origin"] == row.origin) & (at == hour_before)
        ].itertuples()
        assert (row.temp_f, row.visibility_mi) == (found.temp, found.visib)


def test_the_command_writes_the_days_asked_for_and_the_same_bytes_again(year, tmp_path):
    first, again = tmp_path / "new" / "first.parquet", tmp_path / "again.parquet"
    days = ["--from", "2013-03-09", "--to", "2013-03-11"]
    assert prepare.main([str(first), *days, "--permute-days", "3"]) == 0
    chosen = year[year["day"].between(pd.Timestamp("2013-03-09"), pd.Timestamp("2013-03-11"))]
    prepare.write(prepare.permute_days(chosen, 3), again)
    assert first.read_bytes() == again.read_bytes()
    table = pq.read_table(first)
    assert table.schema.equals(prepare.SCHEMA)
    written = {key[:10] for key in table["flight_id"].to_pylist()}
    assert written == {"2013-03-09", "2013-03-10", "2013-03-11"}


def test_a_missing_package_is_named_with_what_to_do():
    with pytest.raises(FileNotFoundError, match="pip install no_such_package"):
        prepare.data_folder("no_such_package")


def test_permuted_days_move_whole(year):
    moved = prepare.permute_days(year, seed=7)
    assert moved["scheduled_departure"].is_monotonic_increasing
    before, after = (rows.set_index("flight_id").sort_index() for rows in (year, moved))
    fixed = [
        name
        for name in prepare.SCHEMA.names[1:]
        if name not in ("scheduled_departure", "label_known_at")
    ]
    pd.testing.assert_frame_equal(before[fixed], after[fixed])
    shift = after["scheduled_departure"] - before["scheduled_departure"]
    spread = shift.groupby(before["day"]).agg(["min", "max"])
    assert (spread["min"] == spread["max"]).all()
    assert (shift % DAY == pd.Timedelta(0)).all()
    assert (shift[shift != pd.Timedelta(0)]).index.str[:10].nunique() > 350
    labelled = before["label_known_at"].notna()
    assert (
        (after["label_known_at"] - before["label_known_at"])[labelled] == shift[labelled]
    ).all()
    assert sorted(after["day"].unique()) == sorted(before["day"].unique())


def test_another_seed_is_another_order(year):
    january = year[year["day"] < pd.Timestamp("2013-02-01")]
    first, second = (prepare.permute_days(january, seed) for seed in (1, 2))
    assert list(first["flight_id"]) != list(second["flight_id"])


def test_carriers_are_exchanged_from_the_day_on_and_nothing_else(year):
    since = pd.Timestamp("2013-03-20")
    swapped = prepare.swap_carriers(year, date(2013, 3, 20))
    before = year["day"] < since
    assert (swapped["carrier"] == year["carrier"])[before].all()
    expected = year["carrier"][~before].map(lambda code: prepare.SWAPPED.get(code, code))
    assert (swapped["carrier"][~before] == expected).all()
    assert (swapped["carrier"] != year["carrier"]).sum() > 200_000
    pd.testing.assert_frame_equal(swapped.drop(columns="carrier"), year.drop(columns="carrier"))


def test_exchanged_codes_are_seen_on_the_first_day_and_on_no_day_before(year):
    ids = year["scheduled_departure"].dt.floor("D").astype("int64").to_numpy() // 86_400_000_000
    broken = prepare.swap_carriers(year, date(2013, 3, 20))
    names = model().spec.features.fields
    reference = year["day"] < pd.Timestamp("2013-02-15")
    watched = [FeatureSpec(name, kind_of(name), nullable=True) for name in names]
    profile = BlockHistograms.measure(
        columns(year[reference], names),
        watched,
        ids[reference],
        86_400_000_000,
        np.random.default_rng(7),
    )
    first = int(pd.Timestamp("2013-03-20").value // 86_400_000_000_000)
    for block in range(first - 3, first + 3):
        live = columns(broken[ids == block], names)
        evidence = profile.judge(profile.bins.count(live))
        assert evidence is not None
        assert evidence.drifted == (block >= first)
        assert not evidence.drifted or evidence.feature == "carrier"


def test_every_row_keeps_what_the_streams_declare(year):
    departures, arrivals = stream("departures"), stream("arrivals")
    assert [*departures.spec.fields] == prepare.SCHEMA.names[:-2]
    for declared, rows in (
        (departures, year),
        (arrivals, year[year["label_known_at"].notna()]),
    ):
        for name, field in declared.spec.fields.items():
            cells = rows[name]
            assert field.nullable == bool(cells.isna().any()), name
            if field.allowed is not None:
                assert set(cells) == set(field.allowed), name
            if field.minimum is not None and field.maximum is not None:
                assert cells.dropna().between(field.minimum, field.maximum).all(), name
            if field.type is FieldType.STRING:
                assert cells.str.len().max() <= field.max_length, name


def test_the_model_learns_from_all_features_and_from_no_key_or_time():
    departures, declared = stream("departures"), model().spec
    spare = {departures.spec.key, departures.spec.event_time}
    assert set(declared.features.fields) == set(departures.spec.fields) - spare
    assert declared.positive_field in stream("arrivals").spec.fields


def kind_of(name: str) -> FeatureKind:
    text = stream("departures").spec.fields[name].type is FieldType.STRING
    return FeatureKind.CATEGORICAL if text else FeatureKind.NUMERIC


def columns(rows: pd.DataFrame, names: tuple[str, ...]):
    return {
        name: rows[name].to_numpy(
            dtype=object if kind_of(name) is FeatureKind.CATEGORICAL else float
        )
        for name in names
    }
