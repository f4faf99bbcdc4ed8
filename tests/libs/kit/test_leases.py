"""Leased jobs: one holder at a time, and only the holder may write."""

import asyncio

import pytest

from gyral.kit.leases import Jobs, Lost, Worker
from gyral.kit.tx import PermanentError, Tx, begin
from gyral.testkit.events import a_delivery
from gyral.testkit.waiting import until

pytestmark = pytest.mark.live


@pytest.fixture
def opened(pool):
    return begin(pool, Tx, service="kit")


@pytest.fixture
def jobs(pool):
    return Jobs(pool, "train", max_attempts=3)


@pytest.fixture
def queue(opened, jobs):
    async def enqueue(name="one", **spec):
        async with opened() as tx:
            return await jobs.enqueue(
                tx, name, spec, cause=a_delivery("cause", correlation_id="story")
            )

    return enqueue


@pytest.fixture
async def workers(jobs):
    made: list[Worker] = []

    async def make(run, **knobs):
        worker = Worker(
            jobs, run, name=f"w{len(made)}", **{"poll_s": 0.05, "lease_s": 0.6, **knobs}
        )
        made.append(worker)
        await worker.start()
        return worker

    yield make
    for worker in made:
        await worker.stop()


@pytest.fixture
def state(pool):
    async def read(job_id):
        return await pool.fetchval("SELECT state FROM job WHERE id = $1", job_id)

    return read


async def test_the_same_name_is_the_same_job(queue, jobs):
    assert await queue(model="m") == await queue(model="other")
    job = await jobs.claim("w", 10)
    assert (job.spec, job.attempts, job.token) == ({"model": "m"}, 1, 1)
    assert (job.cause.event_id, job.cause.correlation_id) == ("cause", "story")
    assert await jobs.claim("w", 10) is None


async def test_a_holder_whose_lease_ran_out_cannot_write(queue, jobs, opened, state):
    job_id = await queue()
    slow = await jobs.claim("slow", 0.0)
    quick = await jobs.claim("quick", 60)
    assert (quick.id, quick.token, quick.attempts) == (slow.id, 2, 2)
    with pytest.raises(Lost):
        await jobs.heartbeat(slow, 60)
    with pytest.raises(Lost):  # noqa: PT012
        async with opened() as tx:
            await tx.conn.execute(
                "INSERT INTO inbox (consumer, event_id) VALUES ('slow', 'wrote')"
            )
            await jobs.complete(tx, slow)
    async with opened() as tx:
        await jobs.complete(tx, quick)
        assert not await tx.conn.fetchval("SELECT EXISTS (SELECT FROM inbox)")
    assert await state(job_id) == "done"


async def test_many_workers_never_share_a_job(queue, jobs):
    for number in range(20):
        await queue(f"job-{number}")
    claimed = await asyncio.gather(*(jobs.claim(f"w{n}", 60) for n in range(30)))
    ids = [job.id for job in claimed if job is not None]
    assert len(ids) == len(set(ids)) == 20


async def test_work_longer_than_its_lease_is_kept_by_the_heartbeat(queue, workers, state):
    job_id = await queue()
    runs, finish = [], asyncio.Event()

    async def run(job):
        runs.append(job.attempts)
        await finish.wait()

    await workers(run, lease_s=1.0)
    await workers(run, lease_s=1.0)
    await until(lambda: runs)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.0):
            await until(lambda: len(runs) > 1)
    finish.set()

    async def done():
        return await state(job_id) == "done"

    await until(done)
    assert runs == [1]


async def test_a_cancelled_job_stops_its_run(queue, workers, jobs, opened, state):
    job_id = await queue()
    running, stopped = asyncio.Event(), asyncio.Event()

    async def run(_job):
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await workers(run, lease_s=0.3)
    await running.wait()
    async with opened() as tx:
        assert await jobs.cancel(tx, job_id)
    async with asyncio.timeout(5):
        await stopped.wait()
    assert await state(job_id) == "cancelled"
    async with opened() as tx:
        assert not await jobs.cancel(tx, job_id)


@pytest.mark.parametrize(
    ("error", "runs"),
    [(ValueError("bug"), 3), (PermanentError("never"), 1)],
    ids=["bug", "permanent"],
)
async def test_a_failing_job_ends_with_its_reason(  # noqa: PLR0917
    error, runs, queue, workers, jobs, opened, state, pool
):
    job_id = await queue()
    attempts = []

    async def run(job):
        attempts.append(job.attempts)
        raise error

    async def gave_up(job, reason):
        async with opened() as tx:
            await jobs.fail(tx, job, reason)

    await workers(run, on_exhausted=gave_up)

    async def failed():
        return await state(job_id) == "failed"

    await until(failed)
    assert len(attempts) == runs
    assert str(error) in await pool.fetchval("SELECT reason FROM job")


async def test_a_job_whose_workers_all_die_is_given_up(queue, jobs, workers, state):
    job_id = await queue()
    for _ in range(3):
        assert await jobs.claim("dies at once", 0.0)

    async def run(_job):
        pytest.fail("its attempts were used up")

    await workers(run)

    async def failed():
        return await state(job_id) == "failed"

    await until(failed)


async def test_infrastructure_that_is_away_costs_no_attempt(queue, workers, state, pool):
    job_id = await queue()
    failures = iter(range(1))

    async def run(_job):
        if next(failures, None) is not None:
            raise ConnectionRefusedError("s3 is away")

    await workers(run)

    async def done():
        return await state(job_id) == "done"

    await until(done)
    assert await pool.fetchval("SELECT attempts FROM job") == 1


async def test_a_stopped_worker_gives_its_job_back(queue, workers, state, pool):
    job_id = await queue()
    running = asyncio.Event()

    async def run(_job):
        running.set()
        await asyncio.Event().wait()

    worker = await workers(run, lease_s=60)
    await running.wait()
    await worker.stop()
    assert (await state(job_id), await pool.fetchval("SELECT attempts FROM job")) == (
        "queued",
        0,
    )
    assert worker.healthy() is not None
