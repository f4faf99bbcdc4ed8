"""Alarms on labelled quality, one step per closed block: state in, state out, nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self

import msgspec

T_LIMIT = 1e9


@dataclass(frozen=True, slots=True)
class LossBaseline:
    """Mean and spread of out-of-fold block log-losses: what was normal at training."""

    mean: float
    sd: float

    @classmethod
    def of(cls, block_losses: Sequence[float]) -> Self:
        """Measure a baseline on the mean log-loss of each training block, out of fold.

        Raises:
            ValueError: fewer than two blocks, or all are equal to the last digit.
        """
        if len(block_losses) < 2:  # noqa: PLR2004 - a spread needs two
            found = len(block_losses)
            raise ValueError(f"block_losses: expected at least 2 blocks, found {found}")
        sd = stdev(block_losses)
        if not sd > 0.0:
            raise ValueError(f"block_losses: expected a spread above 0, found {sd}")
        return cls(fmean(block_losses), sd)

    def z(self, block_loss: float) -> float:
        """Say how many spreads a block's mean log-loss lies above normal."""
        return (block_loss - self.mean) / self.sd


@dataclass(frozen=True, slots=True)
class CusumState:
    """The running sum after so many blocks."""

    value: float = 0.0
    blocks: int = 0

    def to_json(self) -> str:
        """Write the state for a store."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a state back; raises msgspec.ValidationError when it is another thing."""
        return msgspec.json.decode(text, type=cls)


@dataclass(frozen=True, slots=True)
class Cusum:
    """One-sided cumulative sum on z: C = max(0, C + z - k), standing in alarm while C > h.

    With independent standard normal blocks k = .5, h = 5 alarms once in about 930 blocks.

    Source: E. S. Page, Biometrika 41 (1954), 100-115.
    """

    k: float = 0.5
    h: float = 5.0

    def step(self, state: CusumState, z: float) -> CusumState:
        """Take in one closed block.

        Raises:
            ValueError: z is not finite; a block without rows has no z and takes no step.
        """
        if not math.isfinite(z):
            raise ValueError(f"z: expected a finite number, found {z}")
        return CusumState(max(0.0, state.value + z - self.k), state.blocks + 1)

    def alarms(self, state: CusumState) -> bool:
        """Tell whether the state stands in alarm; it takes no step."""
        return state.value > self.h


@dataclass(frozen=True, slots=True)
class ExcessState:
    """Mean excess loss of the latest blocks, oldest first, in nats."""

    excesses: tuple[float, ...] = ()

    def to_json(self) -> str:
        """Write the state for a store."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a state back; raises msgspec.ValidationError when it is another thing."""
        return msgspec.json.decode(text, type=cls)


@dataclass(frozen=True, slots=True)
class ExcessBaseline:
    """Mean excess of the training blocks, out of fold, and its standard error, in nats.

    A sound model that was fitted on little has some excess from its first day.
    """

    mean: float = 0.0
    error: float = 0.0

    @classmethod
    def of(cls, block_excesses: Sequence[float]) -> Self:
        """Measure a baseline; fewer than two blocks know no error and count as none."""
        if len(block_excesses) < 2:  # noqa: PLR2004 - a spread needs two
            return cls()
        error = stdev(block_excesses) / math.sqrt(len(block_excesses))
        return cls(fmean(block_excesses), error)


@dataclass(frozen=True, slots=True)
class ExcessEvidence:
    """The window's mean excess above the baseline, in nats and in standard errors."""

    mean: float
    t: float
    blocks: int


@dataclass(frozen=True, slots=True)
class ExcessLoss:
    """Mean of (log-loss - entropy) over the latest blocks; alarms surely above the baseline.

    It tells a model that is wrong from a week that is hard: log-loss alone rises whenever the
    base rate nears one half. No alarm before half the window has closed.

    Source: D. Spiegelhalter, Statistics in Medicine 5 (1986), 421-433, with blocks for rows.
    """

    above: float = 0.02
    window: int = 14
    t_above: float = 2.0
    baseline: ExcessBaseline = ExcessBaseline()

    @property
    def fewest(self) -> int:
        """Blocks needed before an alarm may be raised."""
        return max(2, (self.window + 1) // 2)

    def step(self, state: ExcessState, excess: float) -> ExcessState:
        """Take in the mean excess of one closed block, in nats.

        Raises:
            ValueError: the excess is not finite; a block without rows takes no step.
        """
        if not math.isfinite(excess):
            raise ValueError(f"excess: expected a finite number, found {excess}")
        return ExcessState((*state.excesses, excess)[-self.window :])

    def evidence(self, state: ExcessState) -> ExcessEvidence:
        """Give mean and t over the window: t is 0 with fewer than two blocks."""
        count = len(state.excesses)
        mean = fmean(state.excesses) - self.baseline.mean if count else 0.0
        if count < 2:  # noqa: PLR2004 - a spread needs two
            return ExcessEvidence(mean, 0.0, count)
        error = math.hypot(stdev(state.excesses) / math.sqrt(count), self.baseline.error)
        if mean == 0.0:
            return ExcessEvidence(0.0, 0.0, count)
        # Equal blocks have no spread: a large finite t keeps the evidence valid JSON.
        return ExcessEvidence(mean, mean / max(error, abs(mean) / T_LIMIT), count)

    def alarms(self, state: ExcessState) -> bool:
        """Tell whether the state stands in alarm; it takes no step."""
        found = self.evidence(state)
        enough = found.blocks >= self.fewest
        return enough and found.mean > self.above and found.t > self.t_above
