"""A version read from outside: by every reader alike, and as a file that is whole or absent."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import parquet

from gyral.client import datasets
from gyral.client.commandline import run
from gyral.client.errors import ClientError
from gyral.kit.blobs import table_options
from gyral.kit.changes import Changes
from gyral.kit.health import Health
from gyral.kit.http import create_api
from gyral.kit.server import HttpServer
from gyral.kit.tx import begin
from gyral.modelling.contents import Content
from gyral.testkit.backends import migrated_pool
from gyral.validation.api import progress
from gyral.validation.domain.standing import Standing
from gyral.validation.store.listings import Listings
from gyral.validation.store.sinks import SinkTx
from tests.libs.kit.operators import operators

START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(first, count, **more):
    times = [START + timedelta(hours=first + number) for number in range(count)]
    return pa.table(
        {
            "id": [f"r{first + number}" for number in range(count)],
            "due": pa.array(times, pa.timestamp("us", "UTC")),
            "fee": pa.array([float(number) for number in range(count)], pa.float64()),
            **more,
        }
    )


@pytest.fixture
def evolved(tmp_path):
    """A table whose stream gained a nullable field after its first version."""
    write_deltalake(tmp_path / "s", rows(0, 2))
    later = rows(2, 2, gate=pa.array(["B", None], pa.string()))
    write_deltalake(tmp_path / "s", later, mode="append", schema_mode="merge")
    return lambda version=None: DeltaTable(tmp_path / "s", version=version)


READERS = {
    "pandas": lambda table: table.to_pandas().astype(object).to_dict("records"),
    "polars": lambda table: (
        pl.scan_pyarrow_dataset(table.to_pyarrow_dataset()).collect().to_dicts()
    ),
    "polars_delta": lambda table: pl.scan_delta(table).collect().to_dicts(),
    "duckdb": lambda table: (
        duckdb.from_arrow(table.to_pyarrow_dataset()).to_arrow_table().to_pylist()
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_field_that_came_later_is_null_in_older_rows_and_absent_before(reader, evolved):
    read = READERS[reader]
    found = {each["id"]: each for each in read(evolved())}
    gates = [found[f"r{number}"]["gate"] for number in range(4)]
    assert [gate if isinstance(gate, str) else None for gate in gates] == [
        None,
        None,
        "B",
        None,
    ]
    assert [found[f"r{number}"]["fee"] for number in range(4)] == [0.0, 1.0, 0.0, 1.0]
    assert {each["due"].astimezone(UTC) for each in found.values()} == {
        START + timedelta(hours=hour) for hour in range(4)
    }
    assert set(read(evolved(0))[0]) == {"id", "due", "fee"}


def test_a_column_that_is_not_there_is_told_with_those_that_are(evolved):
    with pytest.raises(ClientError, match="expected some of id, due, fee, gate; found 'x'"):
        datasets.schema(evolved(), ["id", "x"])


def files(suffix):
    return {path.name for path in Path().iterdir() if path.suffix == suffix}


class Shelf:
    """An instance's lake and the route that tells of its versions."""

    def __init__(self, pool, blobs, options):
        self.pool = pool
        self.uri = f"s3://{blobs.bucket}/lake/renewals"
        self.options = options

    async def commit(self, table):
        write_deltalake(self.uri, table, mode="append", storage_options=self.options)
        now = datasets.open("renewals")
        content = Content.of_rows(now.to_pyarrow_table().to_pylist())
        await self.announce(Standing(now.version(), content, 1))
        return content

    async def announce(self, standing):
        async with begin(self.pool, SinkTx, service="validation")() as tx:
            await tx.add_dataset("renewals", standing, 1, usable_us=1)


@pytest.fixture
async def shelf(stack, postgres_dsn, blobs, tmp_path, monkeypatch):
    settings = stack.s3(blobs.bucket)
    named = {
        "S3_BUCKET": settings.s3_bucket,
        "S3_ENDPOINT": settings.s3_endpoint,
        "S3_ACCESS_KEY": settings.s3_access_key,
        "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }
    lines = [f"{name}={value}\n" for name, value in named.items()]
    (tmp_path / "instance.env").write_text("".join(lines))
    monkeypatch.setenv("GYRAL_HOME", str(tmp_path))
    monkeypatch.setenv("GYRAL_API_KEY", "op")
    monkeypatch.chdir(tmp_path)
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=migrations) as pool:
        routes = progress.routes(Listings(pool), Changes())
        api = create_api("validation", [routes], keys=await operators(), health=Health())
        server = HttpServer(api, host="127.0.0.1", port=0)
        await server.start()
        monkeypatch.setenv("GYRAL_VALIDATION_URL", f"http://127.0.0.1:{server.port}")
        yield Shelf(pool, blobs, dict(table_options(settings)))
        await server.stop()


@pytest.fixture
def typed(capfd):
    """Run `gyral` in a thread, as its own loop is in the way of ours; return its JSON."""

    async def type_(*words, status=0):
        done = await asyncio.to_thread(run, ["dataset", *words, "-o", "json"])
        said = capfd.readouterr()
        assert done == status, said.err
        return said.err if status else json.loads(said.out)

    return type_


@pytest.mark.live
async def test_versions_are_listed_shown_and_exported_as_they_were(shelf, typed):
    first = await shelf.commit(rows(0, 3))
    second = await shelf.commit(rows(3, 40_000))
    assert [each["rows"] for each in await typed("ls", "renewals")] == [3, 40_003]
    [pin] = await typed("show", "renewals", "--version", "0")
    assert (pin["rows"], pin["content"], pin["schema_version"]) == (3, first.digest, 1)

    [old] = await typed("export", "renewals", "--version", "0", "--to", "old.parquet")
    assert (old["rows"], old["content"]) == (3, first.digest)
    [new] = await typed("export", "renewals")
    assert (new["file"], new["rows"]) == ("renewals-1.parquet", 40_003)
    read = parquet.read_table("renewals-1.parquet")
    assert Content.of_rows(read.to_pylist()) == second
    await typed("export", "renewals", "--to", "some.parquet", "--fields", "fee,id")
    assert parquet.read_table("some.parquet").column_names == ["fee", "id"]
    assert not files(".part")


@pytest.mark.live
async def test_an_export_that_is_not_what_was_announced_leaves_no_file(shelf, typed):
    content = await shelf.commit(rows(0, 3))
    await shelf.announce(Standing(0, Content(3, content.total ^ 1), 1))
    said = await typed("export", "renewals", "--to", "bad.parquet", status=1)
    assert f"found {content.digest}" in said
    said = await typed("export", "renewals", "--version", "7", status=1)
    assert "expected version 7 that was announced; found none" in said
    assert not files(".parquet") | files(".part")


@pytest.mark.live
async def test_a_version_that_somebody_was_erased_from_is_exported_as_it_is_now(shelf, typed):
    content = await shelf.commit(rows(0, 3))
    await shelf.announce(Standing(0, Content(4, content.total ^ 1), 1))
    await shelf.pool.execute(
        """
        INSERT INTO erasure (id, stream, subject, actor, because, partitions, ends, versions,
                             done_at)
        VALUES (gen_random_uuid(), 'renewals', 'x', 'ann', 'asked', '{}', '{}', '{0}', now())
        """
    )
    [left] = await typed("export", "renewals", "--version", "0", "--to", "left.parquet")
    assert left["content"] == content.digest
    assert parquet.read_table("left.parquet").num_rows == 3
