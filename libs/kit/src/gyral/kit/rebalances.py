"""What a consumer group tells its members: which partitions went and which came."""

from collections.abc import Awaitable, Callable, Collection

from aiokafka import ConsumerRebalanceListener, TopicPartition


class Rebalances(ConsumerRebalanceListener):  # type: ignore[misc] # published without types
    """Passes a rebalance on to two callables."""

    def __init__(
        self,
        revoked: Callable[[Collection[TopicPartition]], None],
        assigned: Callable[[Collection[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Tell which partitions are ours no longer."""
        self._revoked(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Tell which partitions are ours now, so that each is put to its stored offset."""
        await self._assigned(assigned)
