"""The exercise of `practice/train_bert`: its references beside the package and brute force, unusual right answers."""

import re
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmcourse.data.masked import Vocabulary, choose
from fmcourse.exercises import load
from fmcourse.exercises.session import examine

SEEDS = tuple(range(100, 120))


def test_train_bert_by_hand():
    notes = "a small house,a small house,a small tree,a tall house,the tall tree,the tall tree,the small house"
    words = [note.split() for note in notes.split(",")]

    def share(word):
        follows = [note[1] == word for note in words if note[0] == "a"]
        precedes = [note[2] == "tree" for note in words if note[1] == word]
        return Fraction(sum(follows), len(follows)) * Fraction(sum(precedes), len(precedes))

    assert load("train_bert").question("q1").reference == pytest.approx(
        float(share("tall") / (share("tall") + share("small")))
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_train_bert_both_sides_and_belief_equal_counting_what_can_happen(seed):
    exercise = load("train_bert")
    for case in exercise.question("q2").draw(seed):
        expected = both_in_loops(*case.args)
        torch.testing.assert_close(exercise.given["both_sides"](*case.args).double(), expected, rtol=1e-5, atol=1e-6)
    for case in exercise.question("q4").draw(seed):
        expected = belief_by_stories(*case.args)
        torch.testing.assert_close(exercise.given["believe"](*case.args).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("keep", "replace"), [(0.1, 0.1), (0.3, 0.05), (0.1, 0.0)])
def test_train_bert_belief_is_proposition_1_of_the_chapter(keep, replace):
    v, p = 50, torch.linspace(0.01, 0.99, 30)
    context = torch.cat([p[:, None], ((1 - p) / (v - 1))[:, None].expand(-1, v - 1)], dim=1)
    believed = load("train_bert").given["believe"](context, torch.zeros(30, dtype=torch.long), keep, replace)[:, 0]
    torch.testing.assert_close(believed, p * (keep + replace / v) / (keep * p + replace / v))


@pytest.mark.parametrize("seed", SEEDS)
def test_train_bert_whole_words_are_those_of_the_package(seed):
    """The package draws by the number of the word in its row; here the same draws stand at the words' first tokens."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = Vocabulary(30, 1, 5, torch.arange(30) >= 20)
    ids = torch.randint(5, 30, (6, 20), generator=generator)
    ids[:, 0] = ids[:, 9] = ids[:, 19] = 3
    ids[:, 10] = 7
    ids[:, 1] = 6
    continues, special = vocabulary.continues[ids], ids < 5
    draws = torch.rand(ids.shape, generator=generator)
    expected = choose_with(draws, ids, vocabulary, share=0.3)
    by_word = draws.gather(1, (~continues).cumsum(dim=1).clamp(max=19))
    assert torch.equal(load("train_bert").question("q3").reference(continues, special, by_word, 6), expected)


def choose_with(draws, ids, vocabulary, share):
    """The package's choice with these random numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *args, **kwargs: draws)
        return choose(ids, share, torch.Generator(), vocabulary, whole_words=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_train_bert_control_gives_every_word_one_coin(seed):
    for case in load("train_bert").question("q5").draw(seed):
        assert len(case.args[2]) == len({*case.args[0].tolist(), *case.args[1].tolist()})
        expected = control_with_a_dict(*case.args)
        for part, labels in zip(load("train_bert").question("q5").reference(*case.args), expected, strict=True):
            assert part.tolist() == labels.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_train_bert_the_reader_equals_a_sum_over_all_texts(seed):
    for case in load("train_bert").question("q6").draw(seed):
        expected = read_by_all_texts(*case.args)
        result = load("train_bert").question("q6").reference(*case.args)
        torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_train_bert_by_measurement(seed):
    """Note by note with numpy, drawn by inverse cumulative sums."""
    chance, right = np.random.default_rng(seed), 0
    for _ in range(10_000):
        table = np.exp(2 * chance.normal(size=(8, 8)))
        table /= table.sum(axis=1, keepdims=True)
        left = chance.integers(8)
        middle = chance.choice(8, p=table[left])
        after = chance.choice(8, p=table[middle])
        right += (np.log(table[left]) + np.log(table[:, after])).argmax() == middle
    assert load("train_bert").question("q7").accepts(right / 10_000)


def both_in_loops(to_gap, from_gap, left, right):
    rows = []
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        row = [to_gap[a, w].item() * from_gap[w, b].item() for w in range(len(to_gap))]
        rows.append([x / sum(row) for x in row])
    return torch.tensor(rows, dtype=torch.float64)


def both_in_logarithms(to_gap, from_gap, left, right):
    return (to_gap[left].log() + from_gap.log().T[right]).softmax(dim=-1)


def words_by_a_threshold(continues, special, draws, n):
    """As the package does it: a word's tokens share its draw, and the first draw that is left out decides."""
    draws, chosen = draws.double(), []
    begins = ~continues
    begins[:, 0] = True
    first = torch.where(begins, torch.arange(draws.shape[1]), 0).cummax(dim=1).values
    shared = draws.gather(1, first).masked_fill(special, 2.0)
    shared = torch.cat([shared, torch.full((len(shared), 1), 2.0)], dim=1)
    for row in shared:
        chosen.append(row[:-1] < row.sort().values[min(n, len(row) - 1)])
    return torch.stack(chosen)


def words_as_strings(continues, special, draws, n):
    """A picture of each row, taken apart by a regular expression."""
    chosen = []
    for more, marks, lot in zip(continues.tolist(), special.tolist(), draws.tolist(), strict=True):
        picture = "".join("S" if m else "-" if c else "w" for c, m in zip(more, marks, strict=True))
        words = [found.span() for found in re.finditer(r"^-+|w-*", picture)]
        hidden, room = [False] * len(picture), n
        for start, end in sorted(words, key=lambda span: lot[span[0]]):
            room -= end - start
            if room < 0:
                break
            hidden[start:end] = [True] * (end - start)
        chosen.append(hidden)
    return torch.tensor(chosen)


def belief_by_stories(context, shown, keep, replace):
    """All that can happen at a place: an original, and the token that is drawn in its stead."""
    rows = []
    for prior, seen in zip(context.tolist(), shown.tolist(), strict=True):
        v, row = len(prior), [0.0] * len(prior)
        for truth, drawn in product(range(v), repeat=2):
            fates = {"kept": (keep, truth), "replaced": (replace, drawn), "masked": (1 - keep - replace, v)}
            row[truth] += sum(prior[truth] / v * chance for chance, result in fates.values() if result == seen)
        rows.append([x / sum(row) for x in row])
    return torch.tensor(rows, dtype=torch.float64)


def belief_by_the_formula(context, shown, keep, replace):
    """The formula of the chapter for the token that is shown; what is left goes to the others by their context."""
    result, v = context.double().clone(), context.shape[1]
    for row, token in enumerate(shown.tolist()):
        if token < v:
            p = result[row, token].item()
            believed = p * (keep + replace / v) / (keep * p + replace / v)
            result[row] *= (1 - believed) / (1 - p)
            result[row, token] = believed
    return result


def control_with_a_dict(learn, judge, coins):
    order = sorted({*learn.tolist(), *judge.tolist()})
    coin = dict(zip(order, coins.tolist(), strict=True))
    return [torch.tensor([coin[word] for word in part.tolist()]) for part in (learn, judge)]


def control_by_comparing(learn, judge, coins):
    """How many different words are smaller?"""
    words = torch.tensor(sorted(set(learn.tolist()) | set(judge.tolist())))
    return tuple(coins[(words[None] < part[:, None]).sum(dim=1)] for part in (learn, judge))


def read_by_all_texts(table, row, keep, replace):
    """For each place: every text that fits what is visible elsewhere, with its probability."""
    v, table, contexts = len(table), table.double().tolist(), []
    for place in range(1, len(row) - 1):
        total = torch.zeros(v, dtype=torch.float64)
        tokens = row.tolist()
        tokens[place] = v
        start, end = place - 1, place + 1
        while tokens[start] == v:
            start -= 1
        while tokens[end] == v:
            end += 1
        for between in product(range(v), repeat=end - start - 1):
            text, probability = [tokens[start], *between, tokens[end]], 1.0
            for a, b in pairwise(text):
                probability *= table[a][b]
            total[text[place - start]] += probability
        contexts.append(total / total.sum())
    return belief_by_stories(torch.stack(contexts), row[1:-1], keep, replace)


def read_in_two_passes(table, row, keep, replace):
    """Messages from the left and from the right, each forgotten where a word is visible."""
    v, table = len(table), table.double()
    one = F.one_hot(row, v + 1)[:, :v].double()
    ahead, back = [one[0]], [one[-1]]
    for i in range(1, len(row)):
        ahead.append(one[i] if row[i] < v else ahead[-1] @ table)
        back.append(one[-1 - i] if row[-1 - i] < v else table @ back[-1])
    back = back[::-1]
    context = torch.stack([(ahead[i - 1] @ table) * (table @ back[i + 1]) for i in range(1, len(row) - 1)])
    return belief_by_the_formula(F.normalize(context, p=1, dim=1), row[1:-1], keep, replace)


UNUSUAL = {
    "q2": [both_in_loops, both_in_logarithms],
    "q3": [words_by_a_threshold, words_as_strings],
    "q4": [belief_by_stories, belief_by_the_formula],
    "q5": [control_with_a_dict, control_by_comparing],
    "q6": [read_by_all_texts, read_in_two_passes],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_train_bert_right_but_unusual_answers_lose_nothing(question_id):
    question = load("train_bert").question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
