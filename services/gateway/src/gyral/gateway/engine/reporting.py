"""Tells the deployer how much each model is asked, beside the hot path: it only counts."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gyral.contracts.inference import ServingDemand
from gyral.kit import cloudevents
from gyral.kit.backoff import Backoff
from gyral.kit.db import INFRASTRUCTURE
from gyral.kit.producer import open_producer
from gyral.kit.telemetry import get_log, get_meter, nameless

_EVERY_S = 1.0
_LEAST_S = 0.1
"""Between two reports, however many requests begin to wait."""
_TIMEOUT_S = 5.0
_SOURCE = "gyral/gateway"
log = get_log()


@dataclass(slots=True)
class Asked:
    """What a model was asked since it was told of last."""

    requests: int = 0
    refused: int = 0
    answered: int = 0
    """Requests whose batch a runtime answered."""
    queued_s: float = 0.0
    """Time that these waited together before their batches left."""
    queue_max_s: float = 0.0
    waiting: int = 0
    """Requests in hand for which no runtime is there."""

    def __bool__(self) -> bool:
        """Tell whether there is anything to tell."""
        return bool(self.requests or self.refused or self.answered or self.waiting)


class Reporter:
    """Reports once a second, and at once when a request finds no runtime of its model.

    What Kafka does not take in good time is lost: who reads it wants to know of now. A second
    in which nobody asked is told too, since a gateway that says nothing may only be cut off.
    """

    def __init__(
        self,
        brokers: str,
        gateway: str,
        collect: Callable[[], dict[str, Asked]],
    ) -> None:
        """Name what is told of.

        Args:
            brokers: of Kafka.
            gateway: who tells.
            collect: returns what each model was asked since the last call.
        """
        self._brokers = brokers
        self._gateway = gateway[:100]
        self._collect = collect
        meter = get_meter()
        self._answered = meter.create_counter(
            "gyral_gateway_requests", description="Requests answered by a runtime, by model"
        )
        self._queued = meter.create_counter(
            "gyral_gateway_queue_seconds",
            description="Time that these waited before their batches left, by model",
        )
        self._away: set[str] = set()
        self._hurry = asyncio.Event()
        self._newest: asyncio.Queue[list[ServingDemand]] = asyncio.Queue(1)
        """What is to be told next."""
        self._task: asyncio.Task[None] | None = None

    def away(self, model: str) -> None:
        """Take note that somebody asks for a model none of whose runtimes is there."""
        if model not in self._away:
            self._away.add(model)
            self._hurry.set()

    async def start(self) -> None:
        """Begin to report, without waiting for Kafka."""
        self._task = asyncio.create_task(self._run(), name="reporter")

    async def stop(self) -> None:
        """Report no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def healthy(self) -> str | None:
        """Answer None while it goes on."""
        if self._task is None or self._task.done():
            return "reporter: expected it to run; found it ended"
        return None

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(self._count())
            both.create_task(self._publish())

    async def _count(self) -> None:
        """Look at what was asked, whether Kafka is there or not."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(_LEAST_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S - _LEAST_S):
                    await self._hurry.wait()
            self._hurry.clear()
            now = time.monotonic()
            told = list(self._told(now - began))
            if self._newest.full():
                self._newest.get_nowait()
            self._newest.put_nowait(told)
            began = now

    async def _publish(self) -> None:
        backoff = Backoff(first_s=0.1, limit_s=5.0)
        while True:
            producer = open_producer(self._brokers)
            try:
                await producer.start()
                while True:
                    await self._send(producer, await self._newest.get())
                    backoff.reset()
            except (*INFRASTRUCTURE, KafkaError) as error:
                log.warning("demand.waits_for_kafka", error=type(error).__name__)
            finally:
                with suppress(*INFRASTRUCTURE, KafkaError):
                    async with asyncio.timeout(_TIMEOUT_S):
                        await producer.stop()
            await backoff.wait()

    def _told(self, window_s: float) -> Iterable[ServingDemand]:
        asked, away = self._collect(), self._away
        self._away = set()
        if not asked and not away:
            yield self._of(None, Asked(), window_s)
        for model in sorted(asked.keys() | away):
            found = asked.get(model) or Asked()
            who = {"model_sha256": nameless(model)}
            self._answered.add(found.answered, who)
            self._queued.add(found.queued_s, who)
            found.waiting = max(found.waiting, int(model in away))
            yield self._of(model, found, window_s)

    def _of(self, model: str | None, found: Asked, window_s: float) -> ServingDemand:
        return ServingDemand(
            gateway=self._gateway,
            model=model,
            window_s=min(window_s, 3600.0),
            requests=found.requests,
            refused=found.refused,
            answered=found.answered,
            queue_mean_s=min(found.queued_s / max(found.answered, 1), 3600.0),
            queue_max_s=min(found.queue_max_s, 3600.0),
            waiting=found.waiting,
        )

    async def _send(self, producer: AIOKafkaProducer, told: Iterable[ServingDemand]) -> None:
        topic = ServingDemand.topic.name
        async with asyncio.timeout(_TIMEOUT_S):
            acks = [
                await producer.send(
                    topic,
                    key=each.key.encode(),
                    value=each.model_dump_json().encode(),
                    headers=cloudevents.headers(topic, str(uuid.uuid4()), _SOURCE),
                )
                for each in told
            ]
            await asyncio.gather(*acks)
