"""Cuts a row of logits down to the tokens that can matter, before a sampler chain sees them.

llama.cpp's samplers walk and sort whatever they are given: 10 ms a token for top-p over 150,000 tokens, 0.03 to 0.06 ms
over the thousand that have any weight (engine notes, section 3). What is cut could not pass the chain's filters anyway,
or has a negligible share of the probability. Where that cannot be proved, nothing is cut.

The row is looked at in classes of 64 tokens: the largest logit of each tells which can hold anything of interest, and
what the tokens of all others can weigh together.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.engines.text.exponentials import exponentials

NEGLIGIBLE = 1e-6
_SMALL_VOCABULARY = 1024
_MANY = 512
_HEADS = (4096, 256)
_WIDTHS = (6.0, 9.0, 12.0, 16.0, 20.0)
_FEW_CLASSES = 16
CLASS = 64
_SLACK = 0.001
_BLOCK = 32_768  # so many exponentials at a time stay in the processor's cache until they are summed up
_LOWEST = float(np.finfo(np.float32).min)

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


class Cut(NamedTuple):
    """What may be left out of a row [vocabulary] without changing what a chain chooses.

    `whole`: nothing. `top`: all but so many largest (0 = no such bound). `sigmas`: what lies further below the largest
    than so many standard deviations; the cut is then the top-n-sigma filter itself. `share`: what is not among the
    fewest tokens that have this share at temperature `heat`; the cut is then the top-p filter itself. `below`: what
    lies further below than this. Otherwise what has a share of at most `light` at temperature `heat`. At least `keep`
    of the largest stay.
    """

    whole: bool = False
    top: int = 0
    sigmas: float = 0.0
    share: float = 0.0
    below: float = math.inf
    heat: float = 1.0
    light: float = NEGLIGIBLE
    keep: int = 0


class Survey(NamedTuple):
    """A row [vocabulary] with the largest logit of each class, empty for a small row, and the largest of all.

    Class c has every token with an id of c modulo the number of classes; what does not fill a class is one more.
    """

    row: Row
    maxima: Row
    peak: float

    @property
    def classes(self) -> int:
        """Return how many full classes there are."""
        return len(self.row) // CLASS

    def members(self, numbers: Ids) -> tuple[Ids, Row]:
        """Return the ids of some classes, ascending numbers [n], and their logits."""
        classes = self.classes
        full = numbers[:-1] if len(numbers) and numbers[-1] == classes else numbers
        ids = (np.arange(0, classes * CLASS, classes)[:, None] + full).ravel()
        values = self.row[: classes * CLASS].reshape(CLASS, classes)[:, full].ravel()
        if len(full) == len(numbers):
            return ids, values
        rest = np.arange(classes * CLASS, len(self.row))
        return np.concatenate([ids, rest]), np.concatenate([values, self.row[classes * CLASS :]])


def survey(row: Row) -> Survey:
    """Look a row [vocabulary] over. Should a logit be no number, the largest is NaN."""
    if len(row) <= _SMALL_VOCABULARY:
        return Survey(row, row[:0], float(row.max()))
    classes = len(row) // CLASS
    # Reducing along the long axis is what numpy does fastest.
    maxima = np.maximum.reduce(row[: classes * CLASS].reshape(CLASS, classes), axis=0)
    if classes * CLASS < len(row):
        maxima = np.append(maxima, row[classes * CLASS :].max())
    return Survey(row, maxima, float(maxima[maxima.argmax()]))


def shortlist(seen: Survey, cut: Cut, most: int | None = None) -> Ids | None:
    """Return the ids [n] worth sampling from, ascending; None for all of them.

    Args:
        seen: a row of logits, of which the largest is finite; forbidden tokens are -inf.
        cut: what may be left out. Where it is a filter itself, None says that it has not been applied.
        most: how many ids a list may have that is no filter's; a quarter of the row if not given.
    """
    row, maxima, peak = seen
    most = len(row) // 4 if most is None else most
    if cut.share:
        return _nucleus(seen, cut)
    if cut.sigmas:
        least = _within(row, peak, cut.sigmas)
        found = reaching(seen, least, most) if len(maxima) else None
        return found if found is not None else np.flatnonzero(row >= np.float32(least))
    if not len(maxima) or cut.whole:
        return None
    if cut.top:
        return _top(seen, max(cut.top, cut.keep))
    ids = reaching(seen, peak - cut.below - _SLACK, most) if cut.below < math.inf else _heavy(seen, cut, most)
    if ids is not None and len(ids) < cut.keep:
        ids = _top(seen, cut.keep)
    return ids


def weight_sum(row: Row, peak: float, heat: float = 1.0) -> float:
    """Return the sum of exp((logit - peak) / heat) over a row [vocabulary], good to 1e-6."""
    out = np.empty(min(_BLOCK, len(row)), np.float32)
    total = 0.0
    for start in range(0, len(row), _BLOCK):
        block = row[start : start + _BLOCK]
        weights = out[: len(block)]
        if heat == 1.0:
            total += exponentials(block, peak, weights)
        else:
            np.subtract(block, np.float32(peak), out=weights)
            weights /= np.float32(heat)
            total += exponentials(weights, 0.0, weights)
    return total


def largest(row: Row, count: int) -> Ids:
    """Return the ids of the `count` largest logits [vocabulary], the best first; of equal ones the lowest id first."""
    return best_of(survey(row), count)


def best_of(seen: Survey, count: int) -> Ids:
    """Return the ids of the `count` largest logits of a row that was looked over; see `largest`."""
    row, count = seen.row, min(count, len(seen.row))
    ids = _top(seen, count) if len(seen.maxima) and seen.peak > -math.inf else None
    values = row if ids is None else row[ids]
    order = np.argsort(-values, kind="stable")[:count]
    return order if ids is None else ids[order]


def _top(seen: Survey, count: int) -> Ids | None:
    """Return a set that has the `count` largest in it: so many classes reach the bound, each with one at least."""
    if 2 * count <= len(seen.maxima):
        return reaching(seen, float(np.partition(seen.maxima, -count)[-count]), len(seen.row) // 4)
    if 4 * count > len(seen.row):
        return None
    return np.flatnonzero(seen.row >= np.partition(seen.row, -count)[-count])


def reaching(seen: Survey, bound: float, most: int) -> Ids | None:
    """Return the ids of the logits from `bound` on; None when they are more than `most`."""
    row, maxima, _ = seen
    least = np.float32(max(bound, _LOWEST))  # where most tokens are forbidden, the bound may be -inf
    reached = (maxima >= least).nonzero()[0]
    if 2 * _FEW_CLASSES * len(reached) <= len(maxima):
        ids = _in_classes(seen, reached, least)
        return ids if len(ids) <= most else None
    if len(reached) > most:
        return None
    found = row >= least
    return None if np.count_nonzero(found) > most else np.flatnonzero(found)


def _in_classes(seen: Survey, reached: Ids, least: np.float32) -> Ids:
    classes = seen.classes
    if len(reached) == 0 or reached[-1] == classes:
        ids, values = seen.members(reached)
        return ids[values >= least]
    enough = seen.row[: classes * CLASS].reshape(CLASS, classes).take(reached, axis=1) >= least
    found = enough.ravel().nonzero()[0]
    members, places = np.divmod(found, len(reached))
    members *= classes
    members += reached[places]
    return members


def _within(row: Row, peak: float, sigmas: float) -> float:
    """Return the logit that lies so many standard deviations below the largest; forbidden tokens do not count."""
    total = float(row.sum())
    finite = row if math.isfinite(total) else row[np.isfinite(row)]
    if len(finite) <= _SMALL_VOCABULARY:
        return peak - sigmas * float(finite.std())
    mean = (total if finite is row else float(finite.sum())) / len(finite)
    return peak - sigmas * math.sqrt(max(0.0, float(np.dot(finite, finite)) / len(finite) - mean * mean))


def _nucleus(seen: Survey, cut: Cut) -> Ids | None:
    """Return the fewest tokens that have a share; None when they are not found among the classes that stand out.

    All tokens that are heavier than whatever is outside those classes are sorted. What is outside weighs something
    between the sum of its largest and 64 times as much: often that is enough to see where the share is reached.
    """
    heat = np.float32(cut.heat)
    ceilings = np.exp((seen.maxima - np.float32(seen.peak)) / heat) if len(seen.maxima) else seen.maxima
    outstanding = ceilings > ceilings.sum() / _HEADS[0]
    if np.count_nonzero(outstanding) > _HEADS[1]:
        outstanding = ceilings > ceilings.sum() / _HEADS[1]
    ids, values = seen.members(np.flatnonzero(outstanding)) if len(ceilings) else (np.arange(len(seen.row)), seen.row)
    weights = np.exp((values - np.float32(seen.peak)) / heat)
    others = ceilings[~outstanding]
    heavy = np.flatnonzero(weights > (others.max() if len(others) else -1.0))
    heavy = heavy[np.argsort(-weights[heavy], kind="stable")]
    running = np.cumsum(weights[heavy], dtype=np.float64)
    inside, outside = float(weights.sum(dtype=np.float64)), float(others.sum(dtype=np.float64))
    first, last = np.searchsorted(running, [cut.share * (inside + part * outside) for part in (1, CLASS)])
    if first >= len(running):
        return None
    if first != last:
        first = np.searchsorted(running, cut.share * weight_sum(seen.row, seen.peak, cut.heat))
        if first >= len(running):
            return None
    return np.sort(ids[heavy[: first + 1]])


def _heavy(seen: Survey, cut: Cut, most: int) -> Ids | None:
    """Return the tokens with all but a negligible weight; None when they are more than `most`.

    A class has at most its size times the weight of its largest. So the few classes with the largest logits are often
    enough to prove that all others together are light.
    """
    row, maxima, peak = seen
    weights = np.exp((maxima - np.float32(peak)) / np.float32(cut.heat))
    few = len(maxima) // _FEW_CLASSES
    ascending = np.partition(weights, len(weights) - few) if few else weights
    if CLASS * float(ascending[: len(weights) - few].sum()) <= 0.25 * cut.light:
        # What all others may weigh together is next to nothing; of these few, those at the light end are left out too.
        running = np.cumsum(np.sort(ascending[len(weights) - few :]), dtype=np.float64)
        left_out = int(np.searchsorted(running, 0.25 * cut.light / CLASS))
        least = np.partition(weights, len(weights) - few + left_out)[len(weights) - few + left_out]
        ids, values = seen.members(np.flatnonzero(weights >= least))
        return _weighed(values, ids, peak, cut)
    if most < len(row) // 4:
        return None
    ids_or_all = reaching(seen, peak - (math.log(len(row)) - math.log(cut.light)) * cut.heat, most)
    if ids_or_all is None or len(ids_or_all) <= _MANY:
        return ids_or_all
    return _weighed(row[ids_or_all], ids_or_all, peak, cut)


def _weighed(values: Row, ids: Ids, peak: float, cut: Cut) -> Ids:
    """Drop what is light once the weights are known; a flat distribution stays as it is."""
    weights = np.exp((values - np.float32(peak)) / np.float32(cut.heat))
    for width in _WIDTHS:
        least = math.exp(-width)
        light = weights < least
        # The first test is cheap and often enough.
        if least * len(ids) <= 0.5 * cut.light or float(np.dot(weights, light)) <= 0.5 * cut.light:
            return ids[~light]
    return ids
