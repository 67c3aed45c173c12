"""The exercise of `practice/in_context_learning`: references beside the package and torch, and loops."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Multinomial

from fmcourse.attention import scaled_dot_product_attention
from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.masks import causal_mask

SEEDS = tuple(range(100, 120))


def close(one, other):
    torch.testing.assert_close(torch.as_tensor(one).double(), torch.as_tensor(other).double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", SEEDS)
def test_in_context_learning_references_equal_attention_and_loops(seed):
    exercise = load("in_context_learning")
    for case in exercise.question("q2").draw(seed):
        close(exercise.given["vote"](*case.args), vote_with_attention(*case.args))
    for case in exercise.question("q4").draw(seed):
        close(exercise.given["induction_score"](*case.args), score_in_loops(*case.args))
    for case in exercise.question("q6").draw(seed):
        close(exercise.question("q6").reference(*case.args), long_vote_of_strings(*case.args))
        tokens, v, beta, _ = case.args
        close(exercise.question("q6").reference(tokens, v, beta, 1), exercise.given["vote"](tokens, v, beta))


@pytest.mark.parametrize("seed", SEEDS)
def test_in_context_learning_a_silent_head_is_one_without_weights_behind_it(seed):
    for case in load("in_context_learning").question("q3").draw(seed):
        mixed, n_heads, off = case.args
        m = mixed.shape[-1]
        out = nn.Linear(m, 5, bias=False)
        with torch.no_grad():
            expected = sum(
                part @ weight.T
                for head, (part, weight) in enumerate(
                    zip(mixed.chunk(n_heads, -1), out.weight.chunk(n_heads, 1), strict=True)
                )
                if head not in off
            )
            torch.testing.assert_close(out(load("in_context_learning").given["silence"](*case.args)), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_in_context_learning_the_chances_are_those_of_bayes(seed):
    for case in load("in_context_learning").question("q5").draw(seed):
        counts, trust, prior = case.args
        c = counts.shape[-1]
        rows = counts.reshape(-1, c).double()
        found = []
        for row in rows:
            logs = []
            for colour in range(c):
                probabilities = torch.full((c,), (1 - trust) / (c - 1), dtype=torch.float64)
                probabilities[colour] = trust
                logs.append(Multinomial(int(row.sum()), probabilities).log_prob(row) if row.sum() else torch.zeros(()))
            found.append((torch.stack(logs).double() + prior.double().log()).softmax(0))
        close(load("in_context_learning").given["posterior"](*case.args), torch.stack(found).view(counts.shape))


def test_in_context_learning_by_hand():
    names = {name: i for i, name in enumerate(("dax", "wug", "red", "blue"))}
    text = torch.tensor([names[x] for x in "dax red wug blue dax red wug red dax blue dax".split()])
    says = vote_with_attention(text, 4, math.log(10))[-1, names["red"]].item()
    assert load("in_context_learning").question("q1").reference == pytest.approx(says)


def test_in_context_learning_the_example_in_the_text_of_question_6():
    text, beta = torch.tensor([0, 1, 2, 3, 1, 4, 0, 1]), 2.0
    says = load("in_context_learning").question("q6").reference(text, 5, beta, 2)[-1]
    assert says[2] / says[4] == pytest.approx(math.exp(beta))


def test_in_context_learning_a_head_that_copies_scores_one():
    text, n = torch.randperm(9).repeat(2), 9
    maps = torch.zeros(2, 18, 18)
    maps[0, range(n, 18), range(1, n + 1)] = 1.0
    maps[1, range(n, 18), range(n)] = 1.0
    assert load("in_context_learning").given["induction_score"](maps, text).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("seed", range(10))
def test_in_context_learning_by_measurement(seed):
    """The labels in another direction and in another order, one prompt at a time."""
    chance = np.random.default_rng(seed)
    direction = np.ones(64) / 8
    right = 0
    for _ in range(20000):
        labels = chance.permutation([1, -1] * 8)
        examples = chance.normal(size=(16, 64)) + 1.5 * labels[:, None] * direction
        wanted = chance.choice((-1, 1))
        question = chance.normal(size=64) + 1.5 * wanted * direction
        right += labels[np.argmax(examples @ question)] == wanted
    assert load("in_context_learning").question("q7").accepts(right / 20000)


def vote_with_attention(tokens, v, beta):
    """The package's attention: queries are what tokens are, keys what they stand after."""
    tokens_are = torch.eye(v, dtype=torch.float64)[tokens.long()]
    after = F.pad(tokens_are, (0, 0, 1, 0))[..., :-1, :]
    t = tokens.shape[-1]
    return scaled_dot_product_attention(beta * v**0.5 * tokens_are, after, tokens_are, causal_mask(t, t))[0]


def vote_by_counting(tokens, v, beta):
    """One vote of exp(beta) for each follower, one of 1 for every other place."""
    if tokens.ndim > 1:
        return torch.stack([vote_by_counting(row, v, beta) for row in tokens])
    text, rows = tokens.tolist(), []
    for t, token in enumerate(text):
        votes = Counter()
        for s in range(t + 1):
            votes[text[s]] += math.exp(beta) if s and text[s - 1] == token else 1.0
        rows.append([votes[word] / votes.total() for word in range(v)])
    return torch.tensor(rows)


def silence_by_columns(mixed, n_heads, off):
    width = mixed.shape[-1] // n_heads
    for head in off:
        mixed[..., head * width : (head + 1) * width] = 0
    return mixed


def silence_by_a_mask(mixed, n_heads, off):
    keep = torch.tensor([float(head not in off) for head in range(n_heads)], dtype=torch.float64)
    return mixed * keep.repeat_interleave(mixed.shape[-1] // n_heads)


def score_in_loops(maps, tokens):
    text, sums = tokens.tolist(), []
    for t, token in enumerate(text):
        places = [s + 1 for s in range(t) if text[s] == token]
        if places:
            sums.append(maps[:, t, places].sum(dim=1))
    return sum(sums) / len(sums)


def score_with_numpy(maps, tokens):
    text = tokens.numpy()
    follows = np.tril(np.equal.outer(text, np.concatenate([[-1], text[:-1]])))
    sums = np.einsum("hts,ts->ht", maps.numpy().astype(float), follows)
    return np.average(sums, axis=1, weights=follows.any(axis=1))


def posterior_with_fractions(counts, trust, prior):
    """Exact numbers of Python, however small."""
    c, rows = counts.shape[-1], []
    lie = (1 - Fraction(trust)) / (c - 1)
    for row in counts.view(-1, c).tolist():
        total = sum(row)
        chances = [
            Fraction(belief) * Fraction(trust) ** n * lie ** (total - n)
            for belief, n in zip(prior.tolist(), row, strict=True)
        ]
        rows.append([float(chance / sum(chances)) for chance in chances])
    return torch.tensor(rows).view(counts.shape)


def posterior_one_after_the_other(counts, trust, prior):
    """Belief is updated after each example; scaled every time, nothing becomes 0."""
    c, rows = counts.shape[-1], []
    for row in counts.view(-1, c).tolist():
        belief = prior.double()
        for turn in range(max(row)):
            for colour in (colour for colour in range(c) if row[colour] > turn):
                told = torch.full((c,), (1 - trust) / (c - 1), dtype=torch.float64)
                told[colour] = trust
                belief = F.normalize(belief * told, p=1, dim=0)
        rows.append(belief)
    return torch.stack(rows).view(counts.shape).float()


def posterior_in_single_precision(counts, trust, prior):
    log = prior.float().log() + counts * math.log(trust) - counts * math.log((1 - trust) / (prior.numel() - 1))
    log = log - log.max(dim=-1, keepdim=True).values
    return log.exp() / log.exp().sum(dim=-1, keepdim=True)


def long_vote_of_strings(tokens, v, beta, k):
    """The common ending of two strings."""
    text = "".join(chr(97 + token) for token in tokens.tolist())
    says = torch.zeros(len(text), v)
    for t in range(len(text)):
        powers = []
        for s in range(t + 1):
            ends = [n for n in range(min(k, s) + 1) if text[:s].endswith(text[t + 1 - n : t + 1])]
            powers.append(math.exp(beta * max(ends)))
        for s, power in enumerate(powers):
            says[t, tokens[s]] += power / sum(powers)
    return says


def long_vote_with_shifts(tokens, v, beta, k):
    """Tables of equal tokens, moved along the diagonal, multiplied and added up."""
    agree = F.pad((tokens[:, None] == tokens).double(), (1, 0))[:, :-1]
    unbroken, scores = torch.ones_like(agree), torch.zeros_like(agree)
    for _ in range(k):
        unbroken = unbroken * agree
        scores = scores + unbroken
        agree = F.pad(agree, (1, 0, 1, 0))[:-1, :-1]
    weights = (beta * scores).exp().tril()
    return F.normalize(weights, p=1, dim=-1) @ torch.eye(v, dtype=torch.float64)[tokens.long()]


UNUSUAL = {
    "q2": [vote_with_attention, vote_by_counting],
    "q3": [silence_by_columns, silence_by_a_mask],
    "q4": [score_in_loops, score_with_numpy],
    "q5": [posterior_with_fractions, posterior_one_after_the_other, posterior_in_single_precision],
    "q6": [long_vote_of_strings, long_vote_with_shifts],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_in_context_learning_right_but_unusual_answers_lose_nothing(question_id):
    question = load("in_context_learning").question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
