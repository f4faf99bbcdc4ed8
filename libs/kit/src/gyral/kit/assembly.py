"""The ground a service with a database, events and routes stands on: `app.build` adds to it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Generic, Protocol, Self, TypeVar

from fastapi import APIRouter

from gyral.contracts.access import AccessKeyChanged
from gyral.kit import deadletter_api
from gyral.kit.access import KeyRing
from gyral.kit.bus import Bus
from gyral.kit.changes import Changes
from gyral.kit.db import Pool, open_pool
from gyral.kit.health import Health
from gyral.kit.http import Known, create_api
from gyral.kit.outbox import Relay
from gyral.kit.projection import Projection
from gyral.kit.service import Part, Service
from gyral.kit.settings import CommonSettings
from gyral.kit.tx import Begin, Tx, begin

T = TypeVar("T", bound=Tx)


class Reading(Part, Known, Protocol):
    """A projection of any event, as a service runs, shows and waits for it."""

    def ready(self) -> str | None:
        """Answer None once it was read to its end."""


@dataclass(frozen=True, slots=True)
class Ground(Generic[T]):
    """What every such service has: its transactions, who may call, and who waits for news."""

    name: str
    settings: CommonSettings
    pool: Pool
    begin: Begin[T]
    access: Projection[AccessKeyChanged]
    changes: Changes

    @classmethod
    def of(cls, name: str, settings: CommonSettings, tx_type: type[T]) -> Self:
        """Make it for a service whose transactions are of this type; nothing connects yet."""
        pool = open_pool(settings.dsn, max_size=settings.database_connections)
        return cls(
            name=name,
            settings=settings,
            pool=pool,
            begin=begin(pool, tx_type, service=name),
            access=Projection(settings.kafka_brokers, AccessKeyChanged),
            changes=Changes(),
        )

    def bus(self) -> Bus:
        """Return the service's bus, without any reaction yet."""
        return Bus(
            self.settings.kafka_brokers,
            service=self.name,
            pool=self.pool,
            instance_id=self.settings.member(self.name),
        )

    def service(
        self,
        routers: Sequence[APIRouter],
        parts: Sequence[Part],
        *,
        projections: Sequence[Reading] = (),
        ready: Sequence[Callable[[], str | None]] = (),
        on_start: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> Service:
        """Return the whole service, made and not yet started.

        Args:
            routers: its routes; those of its dead letters come with the bus.
            parts: what starts, in this order, once the projections and the relay have.
            projections: what it knows of others, beside who may call.
            ready: conditions for work to come here, beside that the projections were read.
            on_start: called once the database is up to date and before any part starts.
        """
        known: list[Reading] = [self.access, *projections]
        handles_events = any(isinstance(part, Bus) for part in parts)
        parked = [deadletter_api.routes(self.pool, self.name)] if handles_events else []
        health = Health(ready=[*(each.ready for each in known), *ready])
        return Service(
            name=self.name,
            settings=self.settings,
            health=health,
            api=create_api(
                self.name,
                [*routers, *parked],
                keys=KeyRing(self.access),
                health=health,
                projections=known,
            ),
            pool=self.pool,
            migrations=resources.files(f"gyral.{self.name}") / "migrations",
            on_start=on_start,
            parts=[*known, Relay(self.pool, self.settings.kafka_brokers), *parts],
        )
