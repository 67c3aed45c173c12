"""The exercise of `mathematics/translation_worked_example`: brute force, sacreBLEU, unusual answers that are right."""

import heapq
import itertools
import math
from collections import Counter, defaultdict

import pytest
import sacrebleu
import torch

from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.word_alignment import learn_table

SEEDS = tuple(range(100, 120))
EXERCISE = load("translation_worked_example")


def cases(question_id, seed):
    question = EXERCISE.question(question_id)
    return [(case.args, question.reference(*case.args)) for case in question.draw(seed)]


def by_all_alignments(table, pairs):
    """Every way to choose a source place for each target word, weighed by its probability."""
    table = table.tolist()
    counts = [[0.0] * len(table[0]) for _ in table]
    for source, target in pairs:
        ways = list(itertools.product(range(len(source)), repeat=len(target)))
        weights = [math.prod(table[source[i]][b] for i, b in zip(way, target, strict=True)) for way in ways]
        for way, weight in zip(ways, weights, strict=True):
            for i, b in zip(way, target, strict=True):
                counts[source[i]][b] += weight / sum(weights)
    return torch.tensor([[count / sum(row) for count in row] for row in counts])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_round_of_model_1_is_the_expectation_over_all_alignments(seed):
    for (table, pairs), found in cases("q2", seed):
        torch.testing.assert_close(found, by_all_alignments(table, pairs), rtol=1e-5, atol=1e-6)
        even = torch.ones_like(table)
        packages = learn_table(pairs, iterations=2).of(range(len(table)), range(table.shape[1])).T
        em_step = EXERCISE.question("q2").reference
        torch.testing.assert_close(
            em_step(em_step(even, pairs), pairs).double(), torch.tensor(packages), rtol=1e-5, atol=1e-6
        )


def test_the_house_by_hand():
    one = learn_table([([0], [0]), ([1, 0], [1, 0])], iterations=1)
    assert one.of([0], [0])[0, 0] == EXERCISE.question("q1").reference


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_links_are_found(seed):
    (weights, _), found = cases("q3", seed)[1]
    assert weights.shape[1] == weights.shape[2] + 1
    assert found[0] == 1
    assert found[1] < 0.5


def probability(sentence, table):
    steps = zip([0, *sentence], [*sentence, 0], strict=True)
    return math.prod(math.exp(table[a][b]) for a, b in steps)


def all_sentences(v, longest):
    return itertools.chain.from_iterable(itertools.product(range(1, v), repeat=n) for n in range(longest + 1))


@pytest.mark.parametrize("seed", SEEDS)
def test_score_and_optimum_agree_with_brute_force(seed):
    for (sentence, table, alpha), found in cases("q4", seed):
        lp = ((5 + len(sentence) + 1) / 6) ** alpha
        assert float(found) == pytest.approx(math.log(probability(sentence, table.tolist())) / lp, rel=1e-5)
    for (table, longest), found in cases("q6", seed)[:3]:
        rows, longest = table.tolist(), min(longest, 5)
        best = max(probability(sentence, rows) for sentence in all_sentences(len(rows), longest))
        assert float(EXERCISE.given["best_log_probability"](table, longest)) == pytest.approx(math.log(best), rel=1e-5)
        assert float(found) >= math.log(best) - 1e-5


def test_many_tables_at_once_have_the_optimum_of_each():
    tables, best = (
        torch.randn(7, 4, 4, generator=torch.Generator().manual_seed(0)),
        EXERCISE.given["best_log_probability"],
    )
    assert best(tables, 5).tolist() == [best(table, 5).item() for table in tables]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_beam_that_holds_everything_finds_the_optimum(seed):
    beam_search, score = EXERCISE.question("q5").reference, EXERCISE.given["score"]
    table = (2 * torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))).log_softmax(dim=-1)
    for alpha in (0.0, 0.6, 1.0):
        best = max(all_sentences(4, 3), key=lambda sentence: score(list(sentence), table, alpha))
        assert beam_search(table, 4**4, 3, alpha) == list(best)


@pytest.mark.parametrize("seed", SEEDS)
def test_bleu_is_sacrebleus(seed):
    for (outputs, references), found in cases("q7", seed):
        theirs = sacrebleu.corpus_bleu(outputs, [references], tokenize="none", smooth_method="none", force=True)
        assert found == pytest.approx(theirs.score, abs=1e-9)


def measure(seed, tables=3000, v=6, longest=5):
    """How often the greedy sentence is not the best of all that were tried, by dynamic programming over all tables."""
    generator = torch.Generator().manual_seed(seed)
    logs = (2 * torch.randn(tables, v, v, generator=generator)).double().log_softmax(dim=-1)
    rest = logs[:, :, 0]  # the best that can still follow each word
    for _ in range(longest):
        rest = torch.maximum(logs[:, :, 0], (logs[:, :, 1:] + rest[:, None, 1:]).amax(dim=-1))
    optimum, missed = rest[:, 0], 0
    for rows, best in zip(logs.tolist(), optimum.tolist(), strict=True):
        total, word = 0.0, 0
        for left in range(longest, -1, -1):
            follows = rows[word][: v if left else 1]
            total, word = total + max(follows), follows.index(max(follows))
            if word == 0:
                break
        missed += total < best - 1e-9
    return missed / tables


def test_the_measurement_is_accepted_from_any_seed():
    values = [measure(seed) for seed in range(8)]
    assert all(EXERCISE.question("q8").accepts(value) for value in values), values
    spread = (0.62 * 0.38 / 3000) ** 0.5
    assert abs(sum(values) / len(values) - 0.62) < 1.5 * spread
    assert EXERCISE.question("q8").accepts(0.62 + 6 * spread)
    assert EXERCISE.question("q8").accepts(0.62 - 6 * spread)


def em_with_dictionaries(table, pairs):
    counts = defaultdict(float)
    for source, target in pairs:
        for b in target:
            whole = sum(table[a][b].item() for a in source)
            for a in source:
                counts[a, b] += table[a][b].item() / whole
    sums = Counter()
    for (a, _), count in counts.items():
        sums[a] += count
    return torch.tensor([[counts[a, b] / sums[a] for b in range(table.shape[1])] for a in range(len(table))])


def em_with_matrices(table, pairs):
    counts = torch.zeros_like(table, dtype=torch.float64)
    for source, target in pairs:
        left = torch.nn.functional.one_hot(torch.tensor(source), len(table)).double()
        right = torch.nn.functional.one_hot(torch.tensor(target), table.shape[1]).double()
        shares = left @ table.double() @ right.T
        counts += left.T @ (shares / shares.sum(0)) @ right
    return torch.nn.functional.normalize(counts, p=1, dim=1)


def beam_with_tensors(table, size, longest, alpha):
    """Rows of a tensor for the beam; flat indices that are taken apart again."""
    words, totals, finished = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1), []
    for step in range(longest + 1):
        follows = table[words[:, -1]].clone()
        if step == longest:
            follows[:, 1:] = -torch.inf
        grown = totals[:, None] + follows
        best = grown.flatten().topk(min(size, int(grown.isfinite().sum())))
        parents, chosen = best.indices // len(table), best.indices % len(table)
        words, totals = torch.cat([words[parents], chosen[:, None]], dim=1), best.values
        for row, total in zip(words[chosen == 0], totals[chosen == 0], strict=True):
            finished.append((float(total / ((5 + len(row) - 1) / 6) ** alpha), row[1:-1].tolist()))
        words, totals = words[chosen != 0], totals[chosen != 0]
        if not len(words):
            break
    return max(finished)[1]


def beam_recursive(table, size, longest, alpha):
    def go(running, n):
        grown = [(p + table[w[-1], k].double(), (*w, k)) for p, w in running for k in range(len(table) if n else 1)]
        kept = heapq.nlargest(size, grown)
        return [x for x in kept if not x[1][-1]] + (go(more, n - 1) if (more := [x for x in kept if x[1][-1]]) else [])

    return list(max(go([(0.0, (0,))], longest), key=lambda x: x[0] / ((4 + len(x[1])) / 6) ** alpha)[1][1:-1])


def best_by_bound(table, longest):
    """Always go on with the most probable beginning: the first that has ended is the best of all."""
    rows, waiting = table.tolist(), [(0.0, [0])]
    while True:
        cost, words = heapq.heappop(waiting)
        if len(words) > 1 and words[-1] == 0:
            return -cost
        for word in range(len(rows) if len(words) <= longest else 1):
            heapq.heappush(waiting, (cost - rows[words[-1]][word], [*words, word]))


def best_backwards(table, longest):
    rest = table[:, 0].double()
    for _ in range(longest):
        rest = torch.stack([torch.cat([row[:1], row[1:] + rest[1:]]).max() for row in table])
    return rest[0]


UNUSUAL = {
    "q2": [em_with_dictionaries, em_with_matrices, by_all_alignments],
    "q3": [
        lambda weights, links: torch.tensor(
            [
                sum(max(range(len(w[j])), key=lambda s, r=w[j]: r[s]) == i for i, j in links) / len(links)
                for w in weights
            ]
        ),
        lambda weights, links: (
            (weights[:, [j for _, j in links]].topk(1).indices.squeeze(-1) == torch.tensor([i for i, _ in links]))
            .double()
            .mean(-1)
        ),
    ],
    "q4": [
        lambda sentence, table, alpha: (
            math.log(probability(sentence, table.tolist())) * 6**alpha / (6 + len(sentence)) ** alpha
        ),
        lambda sentence, table, alpha: (
            sum(table[a][b] for a, b in itertools.pairwise([0, *sentence, 0])) / (1 + len(sentence) / 6) ** alpha
        ),
    ],
    "q5": [beam_with_tensors, beam_recursive],
    "q6": [best_by_bound, best_backwards],
    "q7": [
        lambda outputs, references: (
            sacrebleu.corpus_bleu(outputs, [references], tokenize="none", smooth_method="none", force=True).score
        ),
        lambda outputs, references: bleu_with_loops(outputs, references),
    ],
}


def bleu_with_loops(outputs, references):
    logs = 0.0
    for n in range(4):
        hits = groups = 0
        for output, reference in zip(outputs, references, strict=True):
            left = [reference.split()[i : i + n + 1] for i in range(len(reference.split()) - n)]
            for i in range(len(output.split()) - n):
                groups += 1
                if (group := output.split()[i : i + n + 1]) in left:
                    left.remove(group)
                    hits += 1
        if hits == 0:
            return torch.tensor(0.0)
        logs += math.log(hits) - math.log(groups)
    said, wanted = (len(" ".join(side).split()) for side in (outputs, references))
    return torch.tensor(100 * math.exp(logs / 4 + (1 - wanted / said if said < wanted else 0)))


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
