"""Planes of joints and limbs become people, by the greedy matching of Cao et al. 2017 (arXiv 1611.08050, 2.3). Pure."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server.engines.image.preprocess.smoothing import gaussian

Plane = NDArray[np.float32]

JOINTS = 18
BLUR = 3.0
LEAST_PEAK, LEAST_ALONG = 0.1, 0.05
SAMPLES, MOST_SAMPLES_OFF = 10, 2
LEAST_JOINTS, LEAST_MEAN = 4, 0.4
MOST_PEAKS = 64
"""Of one joint; the strongest are kept. Noise has thousands, and matching is quadratic."""

LIMBS = (
    *((1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0), (8, 9, 2), (9, 10, 4)),
    *((1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30), (14, 16, 34), (0, 15, 32), (15, 17, 36)),
    *((2, 16, 18), (5, 17, 26)),
)
"""From joint, to joint, and the first of two planes (x, then y) that point from the one to the other."""


@dataclass(frozen=True)
class Peak:
    """A place where a joint was found, in pixels."""

    x: int
    y: int
    score: float


@dataclass
class Person:
    """Joints by number, and what speaks for them."""

    joints: dict[int, Peak] = field(default_factory=dict)
    score: float = 0.0


@dataclass(frozen=True)
class _Bond:
    one: Peak
    other: Peak
    score: float


def people_of(limbs: NDArray[np.float32], joints: NDArray[np.float32]) -> list[Person]:
    """Return who is in planes [38, height, width] and [18 or more, height, width], the surest first."""
    peaks = [peaks_of(joints[number]) for number in range(JOINTS)]
    people: list[Person] = []
    for a, b, plane in LIMBS:
        for bond in _bonds(peaks[a], peaks[b], limbs[plane], limbs[plane + 1]):
            _take(people, (a, b), bond)
    found = [person for person in people if len(person.joints) >= LEAST_JOINTS]
    found = [person for person in found if person.score / len(person.joints) >= LEAST_MEAN]
    return sorted(found, key=lambda person: -person.score)


def peaks_of(plane: Plane) -> list[Peak]:
    """Return the places that are not below their four neighbours once blurred, with the plane's own values there."""
    smooth = gaussian(plane[:, :, None], BLUR)[:, :, 0]
    wide = np.pad(smooth, 1)
    is_peak = smooth > LEAST_PEAK
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        is_peak &= smooth >= wide[dy : dy + plane.shape[0], dx : dx + plane.shape[1]]
    found = [Peak(int(x), int(y), float(plane[y, x])) for y, x in np.argwhere(is_peak)]
    return sorted(found, key=lambda peak: -peak.score)[:MOST_PEAKS]


def _bonds(ones: list[Peak], others: list[Peak], across: Plane, down: Plane) -> list[_Bond]:
    """Return which peaks are joined by a limb: the likeliest pairs first, each peak once."""
    pairs = [bond for one in ones for other in others if (bond := _bond(one, other, across, down)) is not None]
    pairs.sort(key=lambda bond: -bond.score)
    taken: list[_Bond] = []
    for bond in pairs:
        if all(bond.one is not old.one and bond.other is not old.other for old in taken):
            taken.append(bond)
    return taken


def _bond(one: Peak, other: Peak, across: Plane, down: Plane) -> _Bond | None:
    way = np.array([other.x - one.x, other.y - one.y], dtype=np.float64)
    length = max(float(np.hypot(*way)), 1e-3)
    xs = np.linspace(one.x, other.x, SAMPLES).round().astype(int)
    ys = np.linspace(one.y, other.y, SAMPLES).round().astype(int)
    along = (across[ys, xs] * way[0] + down[ys, xs] * way[1]) / length
    score = float(along.mean()) + min(0.5 * across.shape[0] / length - 1, 0.0)
    holds = int((along > LEAST_ALONG).sum()) > SAMPLES - MOST_SAMPLES_OFF
    return _Bond(one, other, score) if holds and score > 0 else None


def _take(people: list[Person], pair: tuple[int, int], bond: _Bond) -> None:
    """Give a limb to the person who has one of its ends; join two who have one each; else it begins a new one."""
    a, b = pair
    owners = [one for one in people if one.joints.get(a) is bond.one or one.joints.get(b) is bond.other]
    if not owners:
        people.append(Person({a: bond.one, b: bond.other}, bond.one.score + bond.other.score + bond.score))
        return
    first = owners[0]
    if len(owners) > 1 and not first.joints.keys() & owners[1].joints.keys():
        people.remove(owners[1])
        first.joints |= owners[1].joints
        first.score += owners[1].score + bond.score
        return
    if first.joints.get(a) is bond.one:
        _add(first, b, bond.other, bond.score)
    else:
        _add(first, a, bond.one, bond.score)


def _add(person: Person, joint: int, peak: Peak, limb: float) -> None:
    if joint not in person.joints:
        person.joints[joint] = peak
        person.score += peak.score + limb
