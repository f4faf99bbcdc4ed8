"""A service without Kafka: what it handles, what it would send, what it keeps."""

import uuid
from dataclasses import dataclass, field

import asyncpg

from gyral.kit import cloudevents
from gyral.kit.letterbox import Chosen, Letterbox, LetterTx
from gyral.kit.reactions import Reaction, Reactor
from gyral.kit.replays import ReplayOrder
from gyral.kit.tx import begin
from gyral.testkit.events import a_delivery
from gyral.testkit.suites import Happened
from tests.libs.kit.effects import Effects

SERVICE = "kit"
TOPIC = Happened.topic.name


@dataclass(frozen=True)
class Lying:
    """A record in a topic."""

    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    offset: int = 0
    key: bytes | None = b"a"
    topic: str = TOPIC
    partition: int = 0
    timestamp: int = 0


def lying(number, *, event_id="e-1"):
    encoded = cloudevents.encode(
        Happened(thing="a", number=number), a_delivery(event_id), source="/test"
    )
    return Lying(encoded.value, tuple(encoded.headers))


def an_order(because="mended in 1.4.2"):
    return ReplayOrder(uuid.uuid4(), "ann key-1", because)


@dataclass
class Line:
    """A service without Kafka: what it handles, what it would send, what it keeps."""

    pool: asyncpg.Pool
    effects: Effects
    service: str = SERVICE
    offset: int = field(default=100)
    breaker: int = 1000

    async def come(self, record):
        """Deliver a record to the service, which has just been started."""
        reactor = Reactor(
            service=self.service,
            pool=self.pool,
            retries=1,
            breaker=self.breaker,
            first_backoff_s=0.001,
        )
        await reactor.react(Reaction(Happened, self.effects.handle), record)

    def box(self):
        return Letterbox(self.pool, begin(self.pool, LetterTx, service=self.service))

    async def put_back(self, order=None, **chosen):
        _, done = await self.box().put_back(Chosen(**chosen), order or an_order())
        return done

    async def sent(self, topic=TOPIC):
        """Take what is in the outbox for a topic, as Kafka would hand it over."""
        rows = await self.pool.fetch("DELETE FROM outbox WHERE topic = $1 RETURNING *", topic)
        found = []
        for row in rows:
            self.offset += 1
            names = [name.decode() for name in row["header_names"]]
            headers = tuple(zip(names, row["header_values"], strict=True))
            found.append(Lying(row["value"], headers, self.offset, row["key"]))
        return found

    async def letters(self):
        found = await self.box().page(Chosen(), state=None, after=0, limit=100)
        return [(each.event_id, each.reason, each.state) for each in found]

    async def audit(self):
        rows = await self.pool.fetch("SELECT * FROM replay ORDER BY replayed_at")
        return [(row["actor"], row["because"], row["kind"], row["items"]) for row in rows]
