"""The exercise of `concepts/what_is_a_foundation_model`: beside scikit-learn, the bootstrap, numpy, and loops."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestCentroid

from fmcourse.exercises import load
from fmcourse.exercises.session import examine

SEEDS = tuple(range(100, 120))
EXERCISE = load("what_is_a_foundation_model")


def cases(question_id, seed):
    question = EXERCISE.question(question_id)
    return [(case.args, question.reference(*case.args)) for case in question.draw(seed)]


def embed_with_loops(vectors, real):
    means = []
    for text, kept in zip(vectors, real, strict=True):
        mean = sum(token for token, keep in zip(text, kept, strict=True) if keep) / int(kept.sum())
        means.append(mean / math.sqrt(sum(float(x) ** 2 for x in mean)))
    return torch.stack(means)


def by_centroids(vectors, labels, queries, n_classes):
    """scikit-learn's nearest centroid measures distances: the same, when the centroids are of length 1."""
    centroids = NearestCentroid().fit(vectors, labels)
    centroids.centroids_ /= np.linalg.norm(centroids.centroids_, axis=1, keepdims=True)
    return torch.tensor(centroids.predict(queries))


def by_scikit_learn(train, texts):
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", lowercase=False).fit(train)
    return torch.tensor(vectorizer.transform(texts).toarray())


@pytest.mark.parametrize("seed", SEEDS)
def test_vectors_and_classes_are_those_of_scikit_learn(seed):
    for args, found in cases("q2", seed):
        torch.testing.assert_close(found, embed_with_loops(*args))
        assert found.norm(dim=-1).tolist() == pytest.approx([1.0] * len(found))
    for args, found in cases("q3", seed):
        assert torch.equal(found, by_centroids(*args))
    for args, found in cases("q4", seed):
        torch.testing.assert_close(found.double(), by_scikit_learn(*args), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_standard_error_is_the_bootstraps(seed):
    for args, (mean, error) in cases("q5", seed):
        truth, first, second = (side.numpy() for side in args)
        n = len(truth)
        if n == 4:  # every sample with replacement, all equally likely
            rows = np.array(list(itertools.product(range(n), repeat=n)))
        else:
            rows = np.random.default_rng(seed).integers(n, size=(4000, n))
        leads = (first == truth)[rows].mean(axis=1) - (second == truth)[rows].mean(axis=1)
        assert leads.std() == pytest.approx(error, rel=1e-12 if n == 4 else 0.08)
        assert leads.mean() == pytest.approx(mean, abs=1e-12 if n == 4 else 5 * error / 4000**0.5 + 1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_crossing_is_numpys_interpolation(seed):
    for (sizes, first, second), found in cases("q6", seed):
        behind = np.array(second) - np.array(first)
        assert (np.sign(behind[:-1]) <= np.sign(behind[1:])).all()
        assert found == pytest.approx(math.exp(np.interp(0, behind, np.log(sizes))), rel=1e-9)
        lines = [np.interp(math.log(found), np.log(sizes), curve) for curve in (first, second)]
        assert lines[0] == pytest.approx(lines[1], abs=1e-9)


def trial_with_scikit_learn(vectors, labels, n_test, order):
    learn, test = slice(None, -n_test), slice(-n_test, None)
    found = {}
    for name, x in (("encoder", vectors), ("broken", torch.stack([vectors[i] for i in order.tolist()]))):
        found[name] = float((by_centroids(x[learn], labels[learn], x[test], 0) == labels[test]).double().mean())
    guess = DummyClassifier().fit(vectors[learn], labels[learn])
    return found | {"guess": guess.score(vectors[test], labels[test])}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_trial_is_scikit_learns(seed):
    for args, found in cases("q7", seed):
        assert found == pytest.approx(trial_with_scikit_learn(*args))


def test_many_draws_at_once_have_the_classes_of_each():
    generator = torch.Generator().manual_seed(0)
    vectors, queries = (torch.randn(6, n, 5, generator=generator) for n in (4, 9))
    labels = torch.tensor([0, 0, 1, 1]).expand(6, 4)
    nearest_mean = EXERCISE.given["nearest_mean"]
    each = [nearest_mean(*one, 2) for one in zip(vectors, labels, queries, strict=True)]
    assert torch.equal(nearest_mean(vectors, labels, queries, 2), torch.stack(each))


def test_the_doubling_by_doubling():
    months, size = 0, 1e8
    factor = 1000 ** (1 / 60)
    while size < 2e8 * (1 - 1e-9):
        months, size = months + 0.001, size * factor**0.001
    assert months == pytest.approx(EXERCISE.question("q1").reference, abs=0.002)


def measure(seed, draws=400, new=20, m=100):
    rng, right = np.random.default_rng(seed), 0
    for _ in range(draws):
        one, other = rng.standard_normal(m) + 0.2, rng.standard_normal(m) - 0.2
        one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
        right += ((rng.standard_normal((new, m)) + 0.2) @ (one - other) > 0).sum()
        right += ((rng.standard_normal((new, m)) - 0.2) @ (one - other) < 0).sum()
    return right / (2 * new * draws)


def test_the_measurement_is_accepted_from_any_seed():
    values = [measure(seed) for seed in range(10)]
    accepts = EXERCISE.question("q8").accepts
    assert all(map(accepts, values)), values
    spread = 0.095 / 400**0.5  # of one draw: 0.094 to 0.096
    assert abs(sum(values) / len(values) - 0.7042) < 1.5 * spread
    assert accepts(0.7042 - 6 * spread)
    assert accepts(0.7042 + 6 * spread)


def nearest_with_loops(vectors, labels, queries, n_classes):
    answers = []
    for query in queries:
        scores = []
        for k in range(n_classes):
            own = [v for v, label in zip(vectors, labels.tolist(), strict=True) if label == k]
            scores.append(float(query @ sum(own)) / float(sum(own).norm()))
        answers.append(scores.index(max(scores)))
    return torch.tensor(answers, dtype=torch.int32)


def tfidf_with_dictionaries(train, texts):
    with_word = {}
    for text in train:
        for word in set(text.split()):
            with_word[word] = with_word.get(word, 0) + 1
    rows = []
    for text in texts:
        row = [
            text.split().count(w) * (math.log(1 + len(train)) - math.log(1 + with_word[w]) + 1)
            for w in sorted(with_word)
        ]
        length = math.hypot(*row) or 1.0
        rows.append([value / length for value in row])
    return torch.tensor(rows)


def lead_from_four_counts(truth, first, second):
    rows = list(zip(truth.tolist(), first.tolist(), second.tolist(), strict=True))
    only_first = sum(a == t != b for t, a, b in rows)
    only_second = sum(b == t != a for t, a, b in rows)
    n = len(rows)
    mean = (only_first - only_second) / n
    return [mean, math.sqrt(max(0.0, (only_first + only_second) / n - mean**2) / n)]


UNUSUAL = {
    "q2": [
        embed_with_loops,
        lambda vectors, real: F.normalize(torch.einsum("btm,bt->bm", vectors.double(), real.double()), dim=1),
    ],
    "q3": [
        nearest_with_loops,
        by_centroids,
        lambda v, y, q, n: (q @ F.normalize(F.one_hot(y, n).T.to(v.dtype) @ v, dim=1).T).max(dim=1).indices,
    ],
    "q4": [by_scikit_learn, tfidf_with_dictionaries],
    "q5": [
        lead_from_four_counts,
        lambda truth, first, second: (
            torch.eq(first, truth).float().mean() - torch.eq(second, truth).float().mean(),
            torch.var((first == truth).float() - (second == truth).float(), correction=0).div(len(truth)).sqrt(),
        ),
    ],
    "q6": [
        lambda sizes, a, b: torch.tensor(np.exp(np.interp(0, np.subtract(b, a), np.log(sizes)))),
        lambda sizes, a, b: bisected(np.log10(sizes), np.subtract(a, b)),
    ],
    "q7": [trial_with_scikit_learn],
}


def bisected(places, leads):
    low, high = places[0], places[-1]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.interp(middle, places, leads) > 0 else (low, middle)
    return float(10**low)


def trial_with_loops(vectors, labels, n_test, order):
    n = len(labels) - n_test
    counts = [labels[:n].tolist().count(k) for k in range(int(labels.max()) + 1)]
    found = {"broken": 0, "encoder": 0, "guess": 0}
    dealt = torch.stack([vectors[int(i)] for i in order])
    for name, x in (("encoder", vectors), ("broken", dealt)):
        answers = nearest_with_loops(x[:n], labels[:n], x[n:], len(counts))
        found[name] = sum(int(a) == int(t) for a, t in zip(answers, labels[n:], strict=True)) / n_test
    found["guess"] = labels[n:].tolist().count(counts.index(max(counts))) / n_test
    return found


UNUSUAL["q7"].append(trial_with_loops)


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
