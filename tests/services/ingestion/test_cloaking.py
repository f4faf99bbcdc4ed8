"""Personal fields at the door: pseudonyms go on, and nothing of what was sent is said again."""

import re
from datetime import UTC, datetime

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gyral.contracts.batches import BatchForm, BatchSubmitted
from gyral.contracts.data import StreamDeclared
from gyral.ingestion.domain import Door
from gyral.ingestion.engine.bodies import Limits, Task, values_of
from gyral.ingestion.engine.cloaking import Cloak
from gyral.ingestion.engine.forms import MediaType
from gyral.kit.partitioning import partitions_of
from gyral.kit.personal import SEAL, PersonalKeys
from gyral.kit.refusals import Refusal
from gyral.testkit.backends import PERSONAL_SECRET
from tests.services.ingestion.tables import AT, arrow, parquet

KEYS = PersonalKeys(SecretStr(PERSONAL_SECRET))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA = "ada.lovelace@example.org"
FORMS = (MediaType.NDJSON, MediaType.ARROW, MediaType.PARQUET)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def declared(*, key="id", **fields):
    given = {
        "id": {"type": "string"},
        "at": {"type": "timestamp"},
        "who": {"type": "string", "personal": True, "max_length": 40},
        "mail": {"type": "string", "personal": True, "nullable": True, "max_length": 40},
        "x": {"type": "number", "nullable": True},
        **fields,
    }
    body = {"key": key, "event_time": "at", "fields": given, "subject": "who"}
    spec = {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": "visits"},
        "spec": body,
    }
    return StreamDeclared.model_validate({"name": "visits", "generation": 3, "spec": spec})


def read(form, body, *, key="id", partitions=3, **fields):
    stream = declared(key=key, **fields)
    task = Task(
        form,
        Door(key, "at", NOW),
        stream.spec.spec.fields,
        Limits(10_000, 1 << 20),
        partitions,
        Cloak.of(stream, KEYS),
    )
    return values_of(body, task)


def body_of(form, rows):
    if form is MediaType.NDJSON:
        at = AT.isoformat()
        return b"\n".join(orjson.dumps({"at": at, **row}) for row in rows)
    columns = {name: [row.get(name) for row in rows] for name in ("id", "who", "mail")}
    made = pa.table(
        {name: pa.array(column, pa.string()) for name, column in columns.items()}
        | {"at": pa.array([AT] * len(rows), pa.timestamp("us", "UTC"))}
    )
    return arrow(made) if form is MediaType.ARROW else parquet(made)


def rows_of(values):
    found: list[dict[str, object]] = []
    for value in values:
        if value.form is BatchForm.NDJSON:
            found += map(orjson.loads, value.content.split(b"\n"))
        else:
            found += pa.ipc.open_stream(value.content).read_all().to_pylist()
    return found


@pytest.mark.parametrize("form", FORMS)
@given(people=st.lists(st.tuples(TEXTS, st.none() | TEXTS), min_size=1, max_size=20))
def test_every_form_gives_the_same_pseudonyms_and_null_stays_null(form, people):
    rows = [{"id": f"{n}", "who": who, "mail": mail} for n, (who, mail) in enumerate(people)]
    found = {row["id"]: row for row in rows_of(read(form, body_of(form, rows)))}
    for row in rows:
        made = found[row["id"]]
        assert made["who"] == KEYS.pseudonym(row["who"])
        mail = row["mail"]
        assert made["mail"] == (None if mail is None else KEYS.pseudonym(mail))


@pytest.mark.parametrize("form", FORMS)
def test_a_personal_key_is_its_pseudonym_in_its_pseudonyms_partition(form):
    rows = [{"id": f"{n}", "who": f"person {n % 7}"} for n in range(50)]
    for value in read(form, body_of(form, rows), key="who"):
        for row in rows_of([value]):
            assert re.fullmatch(r"[A-Za-z0-9_-]{32}", row["who"])
            assert partitions_of([row["who"].encode()], 3)[0] == value.partition


@pytest.mark.parametrize("form", FORMS)
def test_what_goes_on_is_sealed_and_holds_nothing_of_the_text(form):
    rows = [{"id": f"{n}", "who": ADA, "mail": None if n % 2 else ADA} for n in range(9)]
    for value in read(form, body_of(form, rows)):
        told = BatchSubmitted(
            stream="visits", schemaversion=3, rows=value.rows, form=value.form
        )
        headers = {"ce_type": BatchSubmitted.type, **told.attributes}
        pairs = [(name, text.encode()) for name, text in headers.items()]
        assert KEYS.is_sealed([*pairs, (SEAL, value.seal)], value.content)
        assert b"ada" not in value.content.lower()


def test_what_an_arrow_schema_says_of_itself_does_not_go_on():
    column = pa.field("who", pa.string(), metadata={"note": ADA})
    plain = [pa.field("id", pa.string()), pa.field("at", pa.timestamp("us", "UTC"))]
    schema = pa.schema([*plain, column], metadata={"pandas": ADA})
    made = pa.table({"id": ["a"], "at": [AT], "who": [ADA]}, schema=schema)
    [value] = read(MediaType.ARROW, arrow(made))
    assert b"ada" not in value.content


def test_what_lies_below_a_missing_value_does_not_go_on():
    text = pa.py_buffer(ADA.encode())
    ends = pa.py_buffer(bytes(4) + len(ADA).to_bytes(4, "little"))
    hidden = pa.Array.from_buffers(pa.string(), 1, [pa.py_buffer(b"\0"), ends, text])
    made = pa.table({"id": ["a"], "at": pa.array([AT], pa.timestamp("us", "UTC"))})
    made = made.append_column("who", pa.array(["bob"])).append_column("mail", hidden)
    [value] = read(MediaType.ARROW, arrow(made))
    assert b"lovelace" not in value.content


def line(**row):
    return orjson.dumps({"id": "a", "at": AT.isoformat(), "who": "bob", **row})


@pytest.mark.parametrize(
    ("form", "body", "status"),
    [
        (MediaType.NDJSON, line(who=[ADA]), 422),
        (MediaType.NDJSON, line(who={ADA: 1}), 422),
        (MediaType.NDJSON, line(mail=ADA * 9), 422),
        (MediaType.NDJSON, line(mail=f"{ADA}\0"), 422),
        (MediaType.NDJSON, line(id=ADA * 20), 422),
        (MediaType.NDJSON, line(at=ADA), 422),
        (MediaType.NDJSON, line(undeclared=ADA), 422),
        (MediaType.NDJSON, line(**{ADA: "who"}), 422),
        (MediaType.NDJSON, f'{{"who": "{ADA}", '.encode(), 400),
        (MediaType.NDJSON, f'"{ADA}"'.encode(), 422),
        (MediaType.NDJSON, line()[:-1] + f',"x":{{"{ADA}":1,"{ADA}":2}}}}'.encode(), 400),
        (MediaType.JSON, f'["{ADA}"]'.encode(), 422),
        (MediaType.CLOUDEVENT, orjson.dumps({"specversion": ADA}), 422),
        (MediaType.ARROW, ADA.encode(), 400),
        (MediaType.ARROW, arrow(pa.table({ADA: ["x"]})), 422),
        (MediaType.ARROW, arrow(pa.table({"id": [ADA * 20], "at": [AT], "who": [ADA]})), 422),
        (MediaType.ARROW, arrow(pa.table({"id": ["a"], "at": [ADA], "who": [ADA]})), 422),
        (MediaType.PARQUET, ADA.encode() * 9, 400),
    ],
)
def test_a_refusal_never_says_what_was_sent(form, body, status):
    with pytest.raises(Refusal) as refused:
        read(form, body)
    assert refused.value.status == status
    told = orjson.dumps(refused.value.body).lower()
    assert b"lovelace" not in told
    assert b"What was found is not shown" in orjson.dumps(refused.value.body)
    assert refused.value.__context__ is None


def test_a_refusal_names_row_and_field_all_the_same():
    with pytest.raises(Refusal, match="row 2: who: expected text") as refused:
        read(MediaType.NDJSON, line() + b"\n" + line(who=7))
    assert refused.value.field == "row 2: who"
    with pytest.raises(Refusal, match="line 1: at: expected an RFC 3339 time"):
        read(MediaType.NDJSON, line(at=7))


def test_other_fields_go_on_to_the_last_digit():
    odd = b'{"id":"a","who":"bob","at":"2013-01-01T05:15:00Z","x":1.10000000000000000001e-2}'
    [value] = read(MediaType.NDJSON, odd)
    assert b'"x":1.10000000000000000001e-2' in value.content


def test_a_stream_of_nobody_has_no_cloak():
    spec = declared().model_copy(deep=True).model_dump()
    for field in spec["spec"]["spec"]["fields"].values():
        field.pop("personal", None)
    spec["spec"]["spec"].pop("subject")
    assert Cloak.of(StreamDeclared.model_validate(spec), KEYS) is None
