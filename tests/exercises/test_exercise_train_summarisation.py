"""The exercise of `practice/train_summarisation`: references beside rouge-score, autograd, the package and loops."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rouge_score.rouge_scorer import RougeScorer

from fmcourse.config import TransformerConfig
from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.pointer import PointerSeq2Seq

SEEDS = tuple(range(100, 120))


def library(output, reference, n):
    """ROUGE-n by rouge-score, words as they are."""
    scorer = RougeScorer([f"rouge{n}"], use_stemmer=False)
    return scorer.score(" ".join(reference), " ".join(output))[f"rouge{n}"].fmeasure


def test_train_summarisation_by_hand():
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    scores = scorer.score("a fast editor for xml files", "fast xml files viewer for fast files")
    reference = load("train_summarisation").question("q1").reference
    assert reference == pytest.approx([scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")])


@pytest.mark.parametrize("seed", SEEDS)
def test_train_summarisation_scores_and_spans_equal_the_library(seed):
    exercise = load("train_summarisation")
    for case in exercise.question("q2").draw(seed):
        assert exercise.given["rouge_n"](*case.args) == pytest.approx(library(*case.args))
    for case in exercise.question("q3").draw(seed):
        text, headline, longest = case.args
        spans = [text[i:j] for i, j in combinations(range(len(text) + 1), 2) if j - i <= longest]
        scores = [library(span, headline, 1) for span in spans]
        order = np.argsort(scores)
        assert exercise.given["best_span"](*case.args) == spans[order[-1]]
        assert scores[order[-1]] > scores[order[-2]] + 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_train_summarisation_mixture_sums_over_places_and_to_one(seed):
    for case in load("train_summarisation").question("q4").draw(seed):
        result = load("train_summarisation").given["mixture"](*case.args)
        torch.testing.assert_close(result.double(), mixture_in_loops(*case.args), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(result.sum(dim=1), torch.ones(len(result)))


def test_train_summarisation_mixture_is_that_of_the_package():
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=9, context=12, d_model=8, n_heads=2, n_layers=1)
    model = PointerSeq2Seq(config).eval()
    hidden, memory, source = torch.randn(1, 5, 8), torch.randn(1, 7, 8), torch.randint(9, (1, 7))
    both, weights, gate = model.mixture(hidden, memory, source)
    write = model.head(hidden)[0].softmax(dim=-1)
    mine = load("train_summarisation").given["mixture"](write, weights[0], gate[0, :, 0].exp(), source[0])
    torch.testing.assert_close(mine, both[0].exp())


@pytest.mark.parametrize("seed", SEEDS)
def test_train_summarisation_share_and_slope_equal_bayes_and_autograd(seed):
    for case in load("train_summarisation").question("q5").draw(seed):
        copied, slope = load("train_summarisation").given["who_wrote"](*case.args)
        expected = shares_with_autograd(*case.args)
        torch.testing.assert_close((copied.double(), slope.double()), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_train_summarisation_headlines_keep_the_rules_and_are_greedy(seed):
    for case in load("train_summarisation").question("q6").draw(seed):
        tokens, shares = load("train_summarisation").question("q6").reference(*case.args)
        expected = headline_with_numpy(*case.args)
        assert tokens == expected[0]
        assert shares == pytest.approx(expected[1], abs=1e-5)
        end, source = len(case.args[2]) - 1, case.args[3].tolist()
        assert all(token in source or case.args[4][token] for token in tokens)
        assert end not in tokens
        assert end not in source
        pairs = [*pairwise(tokens)]
        assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("seed", range(10))
def test_train_summarisation_by_measurement(seed):
    """Spans as windows over the counts of the headline's words, clipped with numpy."""
    chance = np.random.default_rng(seed)
    p = 1 / np.arange(1, 501)
    best = []
    for _ in range(500):
        text, headline = chance.choice(500, 40, p=p / p.sum()), chance.choice(500, 6, p=p / p.sum())
        kinds, wanted = np.unique(headline, return_counts=True)
        sums = np.concatenate([np.zeros((1, len(kinds)), int), np.cumsum(text[:, None] == kinds, axis=0)])
        scores = []
        for n in range(1, 11):
            shared = np.minimum(sums[n:] - sums[:-n], wanted).sum(axis=1)
            scores.append((2 * shared / (n + 6)).max())
        best.append(max(scores))
    assert load("train_summarisation").question("q7").accepts(float(np.mean(best)))


def rouge_by_crossing_out(output, reference, n):
    left = [reference[i : i + n] for i in range(max(0, len(reference) - n + 1))]
    total, shared = len(left) + max(0, len(output) - n + 1), 0
    for i in range(len(output) - n + 1):
        if output[i : i + n] in left:
            left.remove(output[i : i + n])
            shared += 1
    if not shared:
        return 0
    precision, recall = shared / (len(output) - n + 1), shared / (len(reference) - n + 1)
    assert total
    return torch.tensor(2 * precision * recall / (precision + recall), dtype=torch.float64)


def span_in_loops(text, headline, longest):
    best, found = -1.0, ()
    for length in range(longest, 0, -1):
        for i in range(len(text) - length + 1):
            score = float(rouge_by_crossing_out(text[i : i + length], headline, 1))
            if score > best + 1e-9:
                best, found = score, tuple(text[i : i + length])
    return found


def mixture_in_loops(write, weights, gate, source):
    result = (gate[:, None] * write).double()
    for step in range(len(gate)):
        for place, token in enumerate(source.tolist()):
            result[step, token] += (1 - gate[step]) * weights[step, place]
    return result


def mixture_by_a_product(write, weights, gate, source):
    return torch.lerp(weights @ F.one_hot(source, write.shape[1]).to(weights.dtype), write, gate[:, None])


def mixture_by_scatter(write, weights, gate, source):
    copied = (1 - gate[:, None]) * weights
    return (gate[:, None] * write).scatter_add(1, source.long().expand(len(write), -1), copied)


def shares_with_autograd(write, weights, gate, source, tokens):
    z = gate.double().logit().requires_grad_()
    written = z.sigmoid() * write.double()[range(len(tokens)), tokens]
    copied = (-z).sigmoid() * torch.where(source == tokens[:, None], weights.double(), 0).sum(dim=1)
    (slope,) = torch.autograd.grad(-(written + copied).log().sum(), z)
    return (copied / (written + copied)).detach(), slope


def shares_in_loops(write, weights, gate, source, tokens):
    """The slope in another form: -g (1 - g) (a - c) / p."""
    shares, slopes = [], []
    for k, token in enumerate(tokens.tolist()):
        a, g = float(write[k, token]), float(gate[k])
        c = sum(float(weights[k, i]) for i, other in enumerate(source.tolist()) if other == token)
        p = g * a + (1 - g) * c
        shares.append((1 - g) * c / p)
        slopes.append(-g * (1 - g) * (a - c) / p)
    return [np.array(shares), np.array(slopes)]


def headline_with_numpy(write, point, gate, source, free, longest):
    write, point, gate, source, free = (x.double().numpy() if x.is_floating_point() else x.numpy()
                                        for x in (write, point, gate, source, free))  # fmt: skip
    end, tokens, shares, pairs = len(gate) - 1, [], [], set()
    while len(tokens) < longest:
        last = tokens[-1] if tokens else end
        powers = np.exp(point[last, source] - point[last, source].max())
        copied = np.bincount(source, powers / powers.sum(), minlength=end + 1) * (1 - gate[last])
        p = copied + gate[last] * write[last]
        order = (int(token) for token in np.argsort(-p))
        token = next(t for t in order if t == end or ((t in source or free[t]) and (last, t) not in pairs))
        if token == end:
            break
        pairs.add((last, token))
        tokens.append(token)
        shares.append(copied[token] / p[token])
    return tokens, shares


def headline_in_logarithms(write, point, gate, source, free, longest):
    """All steps prepared at once; what is forbidden has minus infinity."""
    v = len(gate)
    weights = point[:, source].softmax(dim=1)
    both = mixture_by_a_product(write, weights, gate, source).log()
    banned = ~free.clone()
    banned[source], banned[-1] = False, False
    both[:, banned] = -math.inf
    tokens, shares = [v - 1], []
    for _ in range(longest):
        last = tokens[-1]
        token = both[last].argmax()
        if token == v - 1:
            break
        every = torch.arange(v)
        shares.append(shares_with_autograd(write, weights, gate, source, token.expand(v))[0][every == last])
        both[last, token] = -math.inf
        tokens.append(token.item())
    return tuple(tokens[1:]), [share.squeeze() for share in shares]


UNUSUAL = {
    "q2": [rouge_by_crossing_out, library],
    "q3": [span_in_loops, lambda text, headline, longest: max(
        (text[i:j] for i, j in combinations(range(len(text) + 1), 2) if j - i <= longest),
        key=lambda span: library(span, headline, 1))],
    "q4": [mixture_in_loops, mixture_by_a_product, mixture_by_scatter],
    "q5": [shares_with_autograd, shares_in_loops],
    "q6": [headline_with_numpy, headline_in_logarithms],
}  # fmt: skip


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_train_summarisation_right_but_unusual_answers_lose_nothing(question_id):
    question = load("train_summarisation").question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
