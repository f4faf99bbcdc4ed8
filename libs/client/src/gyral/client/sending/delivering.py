"""Parcels to ingestion, one after another; a refusal is told with the row's own place."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import quote

from gyral.client.answers import Accepted
from gyral.client.calls import Platform
from gyral.client.errors import ClientError, ServiceError
from gyral.client.sending.parcels import MEND, Parcel

_PLACE = re.compile(r"(?:line|row) (\d+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The way to one stream."""

    platform: Platform
    stream: str

    async def deliver(
        self,
        parcels: AsyncIterator[Parcel],
        key: Callable[[Parcel], str],
        taken: Callable[[Parcel], None],
        *,
        name: str,
    ) -> None:
        """Send parcels in their order and tell of each once Kafka holds it.

        Raises:
            ClientError: a row is refused, or ingestion stays away.
        """
        path = f"/v1/streams/{quote(self.stream, safe='')}/records"
        async for parcel in parcels:
            try:
                await self.platform["ingestion"].post(
                    path,
                    parcel.body,
                    Accepted,
                    content_type=parcel.content_type,
                    idempotency_key=key(parcel),
                )
            except ServiceError as error:
                raise _placed(error, parcel, name) from error
            taken(parcel)


def _placed(error: ServiceError, parcel: Parcel, name: str) -> ClientError:
    told = _PLACE.fullmatch(error.message)
    if told is None or not 0 < int(told[1]) <= parcel.rows:
        return error
    return ClientError(f"{name}: {parcel.place(int(told[1]) - 1)}: {told[2]}: {MEND}")
