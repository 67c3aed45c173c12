"""The exercise of `concepts/pretraining_and_finetuning`: references beside other libraries, unusual right answers."""

import statistics

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from torch import nn

from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.lora import LoRALinear, add_lora

SEEDS = tuple(range(100, 120))
EXERCISE = load("pretraining_and_finetuning")


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, check_dtype=False)


def start_of(letter, layer, scale):
    """The five starts of question 1, in a LoRA layer of the package."""
    layer.b.data.normal_()
    if letter in "bc":
        layer.a.data.zero_()
    if letter in "ac":
        layer.b.data.zero_()
    layer.scale = {"d": 0.0, "e": 1.0}.get(letter, scale)
    if letter == "e":
        layer.base.weight.data -= layer.b.data @ layer.a.data


def test_lora_by_hand_is_what_the_package_does():
    names = ("query", "key", "value")
    blocks = nn.ModuleList(nn.ModuleDict({n: nn.Linear(768, 768) for n in names}) for _ in range(12))
    add_lora(blocks, ["query", "value"], rank=4)
    count, letters = EXERCISE.question("q1").reference
    assert sum(p.numel() for p in blocks.parameters() if p.requires_grad) == count
    good = ""
    for letter in "abcde":
        torch.manual_seed(0)
        layer, x = LoRALinear(nn.Linear(5, 4).double(), rank=2, alpha=6.0), torch.randn(9, 5, dtype=torch.float64)
        pretrained = layer.base(x)
        start_of(letter, layer, 3.0)
        out = layer(x)
        assert torch.allclose(out, pretrained), letter
        out.sin().sum().backward()
        good += letter if max(layer.a.grad.abs().max(), layer.b.grad.abs().max()) > 0 else ""
    assert good == letters


@pytest.mark.parametrize("seed", SEEDS)
def test_adapters_equal_a_lora_layer_for_each_customer(seed):
    for case in EXERCISE.question("q4").draw(seed):
        x, weight, bias, a, b, task, alpha = case.args
        layers = []
        for one, other in zip(a, b, strict=True):
            layer = LoRALinear(nn.Linear(*weight.mT.shape), rank=1, alpha=1.0)
            layer.base.weight.data, layer.base.bias.data = weight, bias
            layer.a.data, layer.b.data, layer.scale = one, other, alpha / a.shape[1]
            layers.append(layer)
        rows = [(layers[k] if k >= 0 else layers[0].base)(row) for k, row in zip(task.tolist(), x, strict=True)]
        close(EXERCISE.question("q4").reference(*case.args), torch.stack(rows))


def ridge(x, labels, penalty):
    fit = Ridge(alpha=penalty, solver="svd").fit(x.double().numpy(), 2 * labels.numpy() - 1)
    return torch.as_tensor(fit.coef_), float(fit.intercept_)


def paired(a, b):
    """Mean and standard error of the differences, from scipy's paired t-test."""
    test = stats.ttest_rel(a, b)
    mean = float(np.mean(a) - np.mean(b))
    return mean, mean / float(test.statistic)


def best_row(validation, test):
    return max(zip(validation.tolist(), test.tolist(), strict=True), key=lambda both: statistics.fmean(both[0]))[1]


def verdict_by_scipy(validation_a, test_a, validation_b, test_b):
    return paired(best_row(validation_a, test_a), best_row(validation_b, test_b))


def forgetting_by_sklearn(before, after, real, labels, orders, size, penalty):
    accuracies = [[], []]
    for vectors, list_ in zip((before, after), accuracies, strict=True):
        x = pooled_by_loops(vectors, real).double().numpy()
        for order in orders.numpy():
            head = Ridge(alpha=penalty).fit(x[order[:size]], 2 * labels.numpy()[order[:size]] - 1)
            list_.append(100 * np.mean((head.predict(x[order[size:]]) > 0) == (labels.numpy()[order[size:]] == 1)))
    difference = np.subtract(*accuracies)
    return difference.mean().item(), stats.sem(difference).item()


@pytest.mark.parametrize("seed", SEEDS)
def test_probe_verdict_and_forgetting_equal_scikit_learn_and_scipy(seed):
    for id_, other in {"q5": ridge, "q6": verdict_by_scipy, "q7": forgetting_by_sklearn}.items():
        for case in EXERCISE.question(id_).draw(seed):
            ours, theirs = EXERCISE.question(id_).reference(*case.args), other(*case.args)
            for one, two in zip(ours, theirs, strict=True):
                close(one, torch.as_tensor(two, dtype=one.dtype))


@pytest.mark.parametrize("seed", SEEDS)
def test_words_are_hidden_at_the_agreed_rates_and_only_where_allowed(seed):
    hide, number = EXERCISE.question("q2").reference, torch.Generator().manual_seed(seed)
    tokens = torch.randint(10, 1000, (200, 500), generator=number)
    lot, fate = torch.rand(2, 200, 500, generator=number)
    may = torch.rand(200, 500, generator=number) < 0.8
    inputs, targets = hide(tokens, may, lot, fate, tokens + 1000, 3)
    chosen = targets != -100
    assert not (chosen & ~may).any()
    assert torch.equal(targets[chosen], tokens[chosen])
    assert torch.equal(inputs[~chosen], tokens[~chosen])
    assert chosen.sum() / may.sum() == pytest.approx(0.15, abs=0.01)
    kinds = inputs[chosen] == 3, inputs[chosen] == tokens[chosen] + 1000, inputs[chosen] == tokens[chosen]
    assert [kind.double().mean().item() for kind in kinds] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_the_mean_does_not_see_padding():
    text = torch.randn(1, 3, 4)
    longer = torch.cat([text, torch.full((1, 5, 4), torch.nan)], dim=1)
    close(EXERCISE.given["pooled"](longer, torch.arange(8)[None] < 3), text.mean(dim=1))


@pytest.mark.parametrize("seed", range(40))
def test_the_experiment_repeated_with_numpy_is_accepted(seed):
    draws = np.random.default_rng(seed).binomial(500, 0.75, size=(1000, 10)) / 5
    assert EXERCISE.question("q8").accepts(draws.max(axis=1).mean() - 75)


def test_the_reference_of_the_experiment_is_the_exact_expectation():
    right = np.arange(501)
    at_most = stats.binom.cdf(right, 500, 0.75) ** 10
    expected = (np.diff(at_most, prepend=0) * right / 5).sum() - 75
    assert EXERCISE.question("q8").reference == pytest.approx(expected, abs=0.005)


def hide_by_loops(tokens, may_hide, lot, fate, stranger, mask_id):
    inputs, targets = tokens.clone(), torch.full_like(tokens, -100)
    for place in np.ndindex(*tokens.shape):
        if may_hide[place] and lot[place] < 0.15:
            targets[place] = tokens[place]
            if fate[place] < 0.8:
                inputs[place] = mask_id
            elif fate[place] < 0.9:
                inputs[place] = stranger[place]
    return inputs, targets


def hide_by_arithmetic(tokens, may_hide, lot, fate, stranger, mask_id):
    chosen = (may_hide * (lot < 0.15)).int()
    masked, changed = chosen * (fate < 0.8), chosen * (fate < 0.9)
    inputs = tokens * (1 - changed) + mask_id * masked + stranger * (changed - masked)
    return [inputs.int(), (tokens * chosen - 100 * (1 - chosen)).int()]


def pooled_by_loops(vectors, real):
    return torch.stack([v[r].double().mean(dim=0) for v, r in zip(vectors, real, strict=True)])


def pooled_by_weights(vectors, real):
    weights = real / real.sum(dim=1, keepdim=True)
    return torch.einsum("bt,btd->bd", weights, torch.nan_to_num(vectors))


def served_by_loops(x, weight, bias, a, b, task, alpha):
    out = torch.empty(len(x), len(bias), dtype=torch.float64)
    for i, k in enumerate(task.tolist()):
        merged = weight.double() if k < 0 else weight.double() + alpha / a.size(1) * b[k].double() @ a[k].double()
        out[i] = merged @ x[i].double() + bias
    return out


def served_by_customer(x, weight, bias, a, b, task, alpha):
    """All customers' changes for all rows; then each row takes its own, a column of zeros standing for none."""
    changes = torch.einsum("kor,kri,ni->kno", b, a, x) * alpha / a.shape[-2]
    changes = torch.cat([torch.zeros_like(changes[:1]), changes])
    return nn.functional.linear(x, weight, bias) + changes[task + 1, torch.arange(len(x))]


def probe_by_least_squares(x, labels, penalty):
    """Ordinary least squares with rows added for the penalty, a column of ones for the bias."""
    n, d = x.shape
    rows = torch.cat([torch.cat([x.double(), torch.ones(n, 1)], 1), torch.eye(d, d + 1).double() * penalty**0.5])
    y = torch.cat([labels.double() * 2 - 1, torch.zeros(d).double()])
    solution = torch.linalg.lstsq(rows, y[:, None], driver="gelsd").solution[:, 0]
    return solution[:-1], solution[-1].item()


def probe_by_the_dual(x, labels, penalty):
    """The n by n system, in single precision."""
    y = torch.where(labels == 1, 1.0, -1.0)
    centred = x - x.mean(0)
    weight = centred.T @ torch.linalg.inv(centred @ centred.T + penalty * torch.eye(len(x))) @ (y - y.mean())
    return [weight, (y - x @ weight).mean()]


def verdict_by_lists(*tables):
    one, other = best_row(*tables[:2]), best_row(*tables[2:])
    differences = [x - y for x, y in zip(one, other, strict=True)]
    return statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5


def forgetting_by_counting(before, after, real, labels, orders, size, penalty):
    losses = []
    for order in orders.tolist():
        learn, judge = order[:size], order[size:]
        counts = []
        for vectors in (before, after):
            x = pooled_by_weights(vectors, real)
            weight, bias = probe_by_the_dual(x[learn], labels[learn], penalty)
            counts.append(sum(int((x[i] @ weight + bias > 0).item() == bool(labels[i])) for i in judge))
        losses.append(100 * (counts[0] - counts[1]) / len(judge))
    return statistics.mean(losses), statistics.stdev(losses) / len(losses) ** 0.5


UNUSUAL = {
    "q2": [hide_by_loops, hide_by_arithmetic],
    "q3": [pooled_by_loops, pooled_by_weights],
    "q4": [served_by_loops, served_by_customer],
    "q5": [ridge, probe_by_least_squares, probe_by_the_dual],
    "q6": [verdict_by_scipy, verdict_by_lists],
    "q7": [forgetting_by_sklearn, forgetting_by_counting],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
