"""Interleaved rounds of two sides, and the ratio between them with its spread."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Compared:
    """Figures of two sides, round by round; `better` says which direction is an improvement."""

    name: str
    unit: str
    ours: list[float]
    theirs: list[float]
    better: str

    def line(self) -> str:
        """Return medians, the median of the paired ratios, and their least and greatest."""
        ratios = sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        return (
            f"{self.name:<34} ours {statistics.median(self.ours):>9.2f} {self.unit:<6} "
            f"other {statistics.median(self.theirs):>9.2f} {self.unit:<6} "
            f"ratio {statistics.median(ratios):.3f} [{ratios[0]:.3f} ... {ratios[-1]:.3f}] "
            f"n={len(ratios)} ({self.better} is better)"
        )


def interleave(
    rounds: int, ours: Callable[[], dict[str, float]], theirs: Callable[[], dict[str, float]]
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Run both sides `rounds` times; who goes first alternates, so that drift of the machine hits both alike."""
    mine: list[dict[str, float]] = []
    other: list[dict[str, float]] = []
    for number in range(rounds):
        if number % 2 == 0:
            mine.append(ours())
            other.append(theirs())
        else:
            other.append(theirs())
            mine.append(ours())
    return mine, other


def spread(values: list[float]) -> str:
    """Return the median with least and greatest."""
    return f"{statistics.median(values):.3f} [{min(values):.3f} ... {max(values):.3f}] n={len(values)}"
