"""What the monitor remembers, one transaction at a time."""

from gyral.monitor.store.champions import ChampionTx
from gyral.monitor.store.observations import ObservationTx
from gyral.monitor.store.windows import WindowTx


class MonitorTx(ObservationTx, WindowTx, ChampionTx):
    """A transaction over everything the monitor owns."""
