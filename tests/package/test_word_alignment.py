"""IBM model 1: the pencil's numbers, the slow loop's numbers, and links that no pair states."""

import numpy as np
import pytest

from fmcourse.word_alignment import learn_table

INSERT, TABLE, IMAGE, DELETE = range(4)
TABELLE, EINFUEGEN, BILD, LOESCHEN = range(4)
PUZZLE = [([INSERT, TABLE], [TABELLE, EINFUEGEN]), ([INSERT, IMAGE], [BILD, EINFUEGEN])]
PUZZLE += [([DELETE, IMAGE], [BILD, LOESCHEN])]


def by_loops(pairs, iterations):
    """The same in dictionaries, as the algorithm is usually written down."""
    table = {(a, b): 1.0 for source, target in pairs for a in source for b in target}
    for _ in range(iterations):
        counts, totals = {}, {}
        for source, target in pairs:
            for b in target:
                together = sum(table[a, b] for a in source)
                for a in source:
                    share = table[a, b] / together
                    counts[a, b] = counts.get((a, b), 0) + share
                    totals[a] = totals.get(a, 0) + share
        table = {(a, b): count / totals[a] for (a, b), count in counts.items()}
    return table


def test_the_first_round_is_the_pencils():
    table = learn_table(PUZZLE, iterations=1)
    assert table.of([INSERT], [TABELLE, EINFUEGEN, BILD, LOESCHEN])[:, 0].tolist() == [0.25, 0.5, 0.25, 0]


def test_the_puzzle_is_solved():
    assert learn_table(PUZZLE, iterations=30).best() == {0: 1, 1: 0, 2: 2, 3: 3}


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_loops_find_the_same(iterations):
    draw = np.random.default_rng(0)
    pairs = [
        (draw.integers(9, size=draw.integers(1, 6)).tolist(), draw.integers(20, 31, draw.integers(1, 7)).tolist())
        for _ in range(40)
    ]
    table, loops = learn_table(pairs, iterations), by_loops(pairs, iterations)
    assert len(loops) == len(table.probabilities)
    for (a, b), wanted in loops.items():
        assert table.of([a], [b])[0, 0] == pytest.approx(wanted, rel=1e-9)
    sums = np.bincount(table.sources, table.probabilities)
    assert sums[sums > 0] == pytest.approx(1)


def test_words_never_seen_together_have_probability_zero():
    table = learn_table(PUZZLE)
    assert table.of([DELETE, 77], [TABELLE, 99]).tolist() == [[0, 0], [0, 0]]


def test_empty_sides_count_for_nothing_and_nothing_is_refused():
    assert learn_table([*PUZZLE, ([], [1]), ([2], [])]).best() == learn_table(PUZZLE).best()
    with pytest.raises(ValueError, match="none of the 1 pairs has a word on both sides"):
        learn_table([([], [1])])
    with pytest.raises(ValueError, match="iterations must be positive; got 0"):
        learn_table(PUZZLE, iterations=0)
