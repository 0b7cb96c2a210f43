"""Cuts a row of logits down to the tokens that can matter, before a sampler chain sees them.

llama.cpp's samplers walk and sort whatever they are given: 10 ms a token for top-p over 150,000 tokens, 0.03 to 0.06 ms
over the thousand that have any weight (engine notes, section 3). What is cut could not pass the chain's filters anyway,
or has a negligible share of the probability. Where that cannot be proved, nothing is cut.

The row is looked at in classes: the largest logit of each tells which can hold anything of interest.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NEGLIGIBLE = 1e-6
_SMALL_VOCABULARY = 1024
_MANY = 512
_WIDTHS = (6.0, 9.0, 12.0, 16.0, 20.0)
_FEW_CLASSES = 16
_CLASS = 64
_SLACK = 0.001
_LOWEST = float(np.finfo(np.float32).min)

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


class Cut(NamedTuple):
    """What may be left out of a row [vocabulary] without changing what a chain chooses.

    `whole`: nothing. `top`: all but so many largest (0 = no such bound). `sigmas`: what lies further below the largest
    than so many standard deviations; the cut is then the top-n-sigma filter itself. `below`: what lies further below
    than this. Otherwise what has a share of at most `light` at temperature `heat`. At least `keep` of the largest stay.
    """

    whole: bool = False
    top: int = 0
    sigmas: float = 0.0
    below: float = math.inf
    heat: float = 1.0
    light: float = NEGLIGIBLE
    keep: int = 0


def shortlist(row: Row, cut: Cut) -> tuple[float, Ids | None]:
    """Return the largest logit, and the ids [n] worth sampling from, ascending; None for all of them.

    Args:
        row: logits [vocabulary]; forbidden tokens are -inf. Should one be no number, the largest is NaN.
        cut: what may be left out.
    """
    if len(row) <= _SMALL_VOCABULARY:
        peak = float(row.max())
        if not cut.sigmas or not math.isfinite(peak):
            return peak, None
        return peak, np.flatnonzero(row >= np.float32(_within(row, peak, cut.sigmas)))
    maxima = _maxima(row)
    peak = float(maxima.max())
    if not math.isfinite(peak) or cut.whole:
        return peak, None
    if cut.sigmas:
        return peak, _from(row, maxima, _within(row, peak, cut.sigmas))
    if cut.top:
        return peak, _top(row, maxima, max(cut.top, cut.keep))
    exact = cut.below < math.inf
    ids = _from(row, maxima, peak - cut.below - _SLACK) if exact else _heavy(row, maxima, peak, cut)
    if ids is not None and len(ids) < cut.keep:
        ids = _top(row, maxima, cut.keep)
    return peak, ids


def largest(row: Row, count: int) -> Ids:
    """Return the ids of the `count` largest logits [vocabulary], the best first; of equal ones the lowest id first."""
    count = min(count, len(row))
    _, ids = shortlist(row, Cut(top=count))
    values = row if ids is None else row[ids]
    order = np.argsort(-values, kind="stable")[:count]
    return order if ids is None else ids[order]


def _top(row: Row, maxima: Row, count: int) -> Ids | None:
    """Return a set that has the `count` largest in it: so many classes reach the bound, each with one at least."""
    if 2 * count <= len(maxima):
        return _from(row, maxima, float(np.partition(maxima, -count)[-count]))
    if 4 * count > len(row):
        return None
    return np.flatnonzero(row >= np.partition(row, -count)[-count])


def _maxima(row: Row) -> Row:
    """Return the largest logit of each class: class c has every token with an id of c modulo the number of classes.

    What does not fill a class is one more. Reducing along the long axis is what numpy does fastest.
    """
    classes = len(row) // _CLASS
    maxima = row[: classes * _CLASS].reshape(_CLASS, classes).max(axis=0)
    rest = row[classes * _CLASS :]
    return np.append(maxima, rest.max()) if len(rest) else maxima


def _from(row: Row, maxima: Row, bound: float) -> Ids | None:
    """Return the ids of the logits from `bound` on; None when they are so many that a list does not pay."""
    least = np.float32(max(bound, _LOWEST))  # where most tokens are forbidden, the bound may be -inf
    reached = np.flatnonzero(maxima >= least)
    if 2 * _FEW_CLASSES * len(reached) <= len(maxima):
        return _in_classes(row, reached, least)
    reaching = row >= least
    return None if 4 * np.count_nonzero(reaching) > len(row) else np.flatnonzero(reaching)


def _in_classes(row: Row, reached: Ids, least: np.float32) -> Ids:
    classes = len(row) // _CLASS
    if len(reached) == 0 or reached[-1] == classes:
        ids, values = _of_classes(row, reached)
        return ids[values >= least]
    reaching = row[: classes * _CLASS].reshape(_CLASS, classes)[:, reached] >= least
    found = np.flatnonzero(reaching.ravel())
    return found // len(reached) * classes + reached[found % len(reached)]


def _of_classes(row: Row, reached: Ids) -> tuple[Ids, Row]:
    """Return the ids of some classes, ascending, and their logits."""
    classes = len(row) // _CLASS
    full = reached[:-1] if len(reached) and reached[-1] == classes else reached
    ids = (np.arange(0, classes * _CLASS, classes)[:, None] + full).ravel()
    values = row[: classes * _CLASS].reshape(_CLASS, classes)[:, full].ravel()
    if len(full) == len(reached):
        return ids, values
    rest = np.arange(classes * _CLASS, len(row))
    return np.concatenate([ids, rest]), np.concatenate([values, row[classes * _CLASS :]])


def _within(row: Row, peak: float, sigmas: float) -> float:
    """Return the logit that lies so many standard deviations below the largest; forbidden tokens do not count."""
    total = float(row.sum())
    finite = row if math.isfinite(total) else row[np.isfinite(row)]
    if len(finite) <= _SMALL_VOCABULARY:
        return peak - sigmas * float(finite.std())
    mean = (total if finite is row else float(finite.sum())) / len(finite)
    return peak - sigmas * math.sqrt(max(0.0, float(np.dot(finite, finite)) / len(finite) - mean * mean))


def _heavy(row: Row, maxima: Row, peak: float, cut: Cut) -> Ids | None:
    """Return the tokens with all but a negligible weight; None when they are so many that a list does not pay.

    A class has at most its size times the weight of its largest. So the few classes with the largest logits are often
    enough to prove that all others together are light.
    """
    heat = np.float32(cut.heat)
    weights = np.exp((maxima - np.float32(peak)) / heat)
    total = float(weights.sum())
    for width in _WIDTHS:
        reached = np.flatnonzero(weights >= math.exp(-width))
        if _FEW_CLASSES * len(reached) > len(maxima):
            break
        if _CLASS * (total - float(weights[reached].sum())) <= 0.5 * cut.light:
            ids, values = _of_classes(row, reached)
            return _weighed(values, ids, peak, cut)
    ids_or_all = _from(row, maxima, peak - (math.log(len(row)) - math.log(cut.light)) * cut.heat)
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
