from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyral.client import documents
from gyral.client.answers import Tensor
from gyral.client.errors import ClientError
from gyral.client.replay.bodies import QUESTION_ROWS, batches, questions
from gyral.client.replay.moments import micros, moment
from gyral.client.replay.schedule import NEVER
from gyral.client.replay.source import Columns, read
from gyral.client.replay.variants import Variant, declared, derive
from gyral.contracts.specs.model import Schedule, Trigger

STREAMS = """
apiVersion: gyral/v1
kind: Stream
metadata: {name: orders}
spec:
  key: order
  event_time: at
  clock: event
  fields:
    order: {type: string}
    at: {type: timestamp}
    amount: {type: number, nullable: true}
    items: {type: integer, nullable: true}
    country: {type: string}
---
apiVersion: gyral/v1
kind: Stream
metadata: {name: refunds}
spec:
  key: order
  event_time: known
  clock: event
  fields:
    order: {type: string}
    known: {type: timestamp}
    refunded: {type: boolean}
---
"""
MODEL = """
apiVersion: gyral/v1
kind: Model
metadata: {name: refund}
spec:
  task: binary-classification
  features: {stream: orders, fields: [amount, items, country]}
  label: {stream: refunds, key: order, positive: refunded == true, horizon: 1h}
  train: {trainer: sklearn.logistic_regression}
  triggers: {cooldown: 7d, anyOf: [{cusum: {}}]}
"""
TABLE = pa.table(
    {
        "order": ["b", "a", "c"],
        "at": pa.array([7_000_000, 7_000_000, 2_000_000], pa.timestamp("us", "UTC")),
        "amount": [1.5, None, 2.0],
        "items": pa.array([3, None, 1], pa.int64()),
        "country": ["DE", "FR", "DE"],
        "refunded": [True, None, False],
    }
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "refund.yaml").write_text(STREAMS + MODEL)
    pq.write_table(TABLE, tmp_path / "orders.parquet")
    return tmp_path


def source(folder, **columns):
    found = declared(documents.read(folder), str(folder))
    return read(folder / "orders.parquet", Columns("at", "refunded", **columns), found)


def test_rows_are_in_order_of_time_and_key(folder):
    assert source(folder).keys.tolist() == ["c", "a", "b"]


def test_a_missing_label_never_comes_and_others_at_the_horizon(folder):
    assert source(folder).known_us.tolist() == [3602 * 10**6, NEVER, 3607 * 10**6]


def test_a_lag_says_when_labels_are_known(folder):
    assert source(folder, label_lag="10s").known_us.tolist() == [12 * 10**6, NEVER, 17 * 10**6]


def test_a_file_without_keys_numbers_its_rows(folder):
    pq.write_table(TABLE.drop_columns(["order"]), folder / "orders.parquet")
    assert sorted(source(folder).keys) == ["row-000000000", "row-000000001", "row-000000002"]


@pytest.mark.parametrize("name", ["orders.csv", "orders.parquet"])
def test_csv_and_parquet_give_the_same_rows(folder, name):
    lines = [
        "order,at,amount,items,country,refunded",
        "b,1970-01-01T00:00:07Z,1.5,3,DE,true",
        "a,1970-01-01T00:00:07Z,,,FR,",
        "c,1970-01-01T00:00:02Z,2.0,1,DE,false",
    ]
    (folder / "orders.csv").write_text("\n".join(lines))
    found = declared(documents.read(folder), str(folder))
    rows = read(folder / name, Columns("at", "refunded"), found)
    [batch] = batches("orders", rows.features, rows.keys, slice(0, 3))
    assert [orjson.loads(line) for line in batch.body.split(b"\n")] == [
        {"order": "c", "at": at(2), "amount": 2.0, "items": 1, "country": "DE"},
        {"order": "a", "at": at(7), "amount": None, "items": None, "country": "FR"},
        {"order": "b", "at": at(7), "amount": 1.5, "items": 3, "country": "DE"},
    ]


def at(second):
    return f"1970-01-01T00:00:0{second}.000000Z"


def test_a_label_row_has_what_its_stream_declares(folder):
    rows = source(folder, label_lag="1s")
    [batch] = batches("refunds", rows.labels, rows.keys, np.array([2]))
    assert orjson.loads(batch.body) == {"order": "b", "known": at(8), "refunded": True}
    assert batch.keys == ["b"]


def test_the_same_batch_has_the_same_idempotency_key(folder):
    rows = source(folder)
    keys = {
        batch.idempotency_key
        for _ in range(2)
        for batch in batches("orders", rows.features, rows.keys, slice(0, 3))
    }
    assert len(keys) == 1


def test_a_question_has_an_input_a_feature_and_names_its_rows(folder):
    rows = source(folder)
    inputs = [
        Tensor("amount", "FP64"),
        Tensor("country", "BYTES"),
        Tensor("entity_key", "BYTES"),
    ]
    [question] = questions(inputs, rows.features, rows.keys, rows.times_us, slice(1, 3))
    tensors = {each["name"]: each for each in orjson.loads(question.body)["inputs"]}
    assert list(tensors) == ["amount", "country", "entity_key", "event_time"]
    assert tensors["amount"]["data"] == [None, 1.5]
    assert tensors["entity_key"]["data"] == ["a", "b"]
    assert tensors["event_time"] == {
        "name": "event_time",
        "shape": [2],
        "datatype": "INT64",
        "data": [7 * 10**6, 7 * 10**6],
    }


def test_no_question_has_more_than_32_rows(folder):
    rows = source(folder)
    many = {name: np.tile(cells, 30) for name, cells in rows.features.items()}
    asked = questions(
        [], many, np.tile(rows.keys, 30), np.tile(rows.times_us, 30), slice(5, 90)
    )
    rows = [range(each.rows.start, each.rows.stop) for each in asked]
    assert [row for part in rows for row in part] == list(range(5, 90))
    assert max(map(len, rows)) == QUESTION_ROWS <= 32


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": "country"}, "country: expected a key of its own in each row"),
        ({"key": "id"}, "expected a column 'id'; found order, at"),
        ({"label_at": "country"}, "country: expected times such as"),
    ],
)
def test_a_column_that_does_not_fit_is_named(folder, columns, message):
    with pytest.raises(ClientError, match=message):
        source(folder, **columns)


def test_a_required_field_must_be_in_the_file(folder):
    pq.write_table(TABLE.drop_columns(["country"]), folder / "orders.parquet")
    with pytest.raises(ClientError, match="expected a column 'country'"):
        source(folder)


def test_a_file_that_is_none_is_refused_in_one_line(folder):
    (folder / "orders.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ClientError, match="expected a Parquet file; found Parquet magic"):
        source(folder)


def test_the_controls_differ_from_the_loop_by_their_triggers_alone(folder):
    model = declared(documents.read(folder), "here").model
    made = derive(model, moment(5))
    assert [made[each].name for each in Variant] == ["refund-frozen", "refund-timer", "refund"]
    assert made[Variant.LOOP].spec.triggers == model.spec.triggers
    assert made[Variant.FROZEN].spec.triggers.anyOf == ()
    [trigger] = made[Variant.TIMER].spec.triggers.anyOf
    assert trigger == Trigger(schedule=Schedule(every="28d"))
    bodies = [spec.spec.model_dump(exclude={"triggers"}) for spec in made.values()]
    assert bodies[0] == bodies[1] == bodies[2]
    assert micros(bodies[0]["train"]["bootstrap_at"]) == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (MODEL, "", "expected one Model document; found 0"),
        ("stream: orders", "stream: nowhere", "expected a Stream document 'nowhere'"),
        ("kind: Model", "kind: Modle", "kind: expected Stream or Model; found 'Modle'"),
        ("horizon: 1h", "horizon: soon", "label.horizon: .*found 'soon'"),
        ("kind: Model", "kind: [", "expected YAML; found"),
    ],
)
def test_a_document_that_does_not_fit_is_told_where(folder: Path, old, new, message):
    text = (STREAMS + MODEL).replace(old, new)
    (folder / "refund.yaml").write_text(text)
    with pytest.raises(ClientError, match=message):
        declared(documents.read(folder), str(folder))
