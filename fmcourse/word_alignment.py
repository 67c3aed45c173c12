"""Which word translates which, learned from sentence pairs alone: IBM's first model of 1993.

Taught in `mathematics/translation_worked_example`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmcourse.checks import check_positive

Sides = Sequence[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class TranslationTable:
    """The probability of every target word, given a source word it was ever seen with.

    Args:
        sources, targets: the pairs of words that share a sentence pair, in increasing order of source, then target.
        probabilities: of the target word given the source word; those of one source word add up to 1.

    Taught in `mathematics/translation_worked_example`.
    """

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def of(self, source: Sequence[int], target: Sequence[int]) -> NDArray[np.float64]:
        """One row for each target word, one column for each source word; 0 for words never seen together."""
        size = 1 + max(int(self.targets.max()), *target)
        keys = self.sources * size + self.targets
        wanted = np.asarray(source)[None] * size + np.asarray(target)[:, None]
        places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[places] == wanted, self.probabilities[places], 0.0)

    def best(self) -> dict[int, int]:
        """The most probable target word of every source word: a dictionary."""
        order = np.lexsort((self.probabilities, self.sources))
        last = np.append(self.sources[order][1:] != self.sources[order][:-1], True)
        return dict(zip(self.sources[order][last].tolist(), self.targets[order][last].tolist(), strict=True))


def learn_table(pairs: Sides, iterations: int = 5) -> TranslationTable:
    """IBM model 1: every target word was made by one of the source words, which one is not known, all are as likely.

    Expectation maximisation: share each target word out among the source words by the present table (E), then
    take the shares for counts and make a new table of them (M).

    Args:
        pairs: the words of each source and each target, as ids.

    Raises ValueError when there is no pair of words. Source: Brown et al. 1993, section 4.1.
    """
    check_positive("iterations", iterations)
    sides = [(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)) for a, b in pairs if len(a) and len(b)]
    if not sides:
        raise ValueError(f"none of the {len(pairs)} pairs has a word on both sides")
    source = np.concatenate([np.tile(a, len(b)) for a, b in sides])
    target = np.concatenate([np.repeat(b, len(a)) for a, b in sides])
    place = np.repeat(np.arange(sum(len(b) for _, b in sides)), [len(a) for a, b in sides for _ in b])
    size = int(target.max()) + 1
    keys, link = np.unique(source * size + target, return_inverse=True)
    sources, targets = keys // size, keys % size
    table: NDArray[np.float64] = np.ones(len(keys))
    for _ in range(iterations):
        share = table[link]
        share /= np.bincount(place, share)[place]  # E: who made this target word?
        counts = np.bincount(link, share)  # M: count the shares, and divide
        table = counts / np.bincount(sources, counts)[sources]
    return TranslationTable(sources, targets, table)
