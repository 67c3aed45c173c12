"""The exercise of `practice/train_gpt`: its references beside torch, the package and brute force, unusual answers."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmcourse.attention import MultiHeadAttention, scaled_dot_product_attention
from fmcourse.cache import LayerCache
from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.generation import next_token_probabilities
from fmcourse.masks import causal_mask

SEEDS = tuple(range(100, 120))


def smallest_set(row, p):
    """Of all sets of tokens that reach p, one of the fewest, and of these the likeliest: for one row of numbers."""
    if p == 1:
        return row
    sets = [chosen for chosen in product((False, True), repeat=len(row)) if row[list(chosen)].sum() >= p - 1e-9]
    best = min(sets, key=lambda chosen: (sum(chosen), -row[list(chosen)].sum()))
    kept = np.where(best, row, 0.0)
    return kept / kept.sum()


def in_rows(function, probabilities, *others):
    """A function of one row of numbers, applied to every row of a tensor."""
    rows = probabilities.double().numpy().reshape(-1, probabilities.shape[-1])
    return np.array([function(row, *(float(other[i]) for other in others)) for i, row in enumerate(rows)])


@pytest.mark.parametrize("seed", SEEDS)
def test_train_gpt_references_equal_the_package_and_brute_force(seed):
    exercise = load("train_gpt")
    for case in exercise.question("q2").draw(seed):
        logits, temperature, k = case.args
        expected = next_token_probabilities(logits, temperature=temperature, top_k=k)
        torch.testing.assert_close(exercise.given["next_probabilities"](*case.args), expected)
    for case in exercise.question("q3").draw(seed):
        probabilities, p = case.args
        expected = in_rows(lambda row, p=p: smallest_set(row, p), probabilities).reshape(probabilities.shape)
        torch.testing.assert_close(exercise.given["top_p"](*case.args), torch.from_numpy(expected).float())
        again = next_token_probabilities(probabilities.log(), top_p=p)
        torch.testing.assert_close(exercise.given["top_p"](*case.args), again)
    for case in exercise.question("q4").draw(seed):
        token = exercise.given["draw"](*case.args)
        assert torch.equal(token, drawn_with_numpy(*case.args))
        assert case.args[0].gather(-1, token[..., None]).min() > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_train_gpt_a_step_with_the_cache_equals_the_full_computation(seed):
    """The last row of causal attention over all positions, and the last row of the package's, step after step."""
    exercise = load("train_gpt")
    step = exercise.given["cache_step"]
    for case in exercise.question("q5").draw(seed):
        query, key, value, keys, values = case.args
        output, keys, values = step(query, key, value, keys, values)
        expected = F.scaled_dot_product_attention(query[..., None, :], keys, values)[..., 0, :]
        torch.testing.assert_close(output, expected)
        assert torch.equal(keys[..., -1, :], key)
        assert torch.equal(values[..., -1, :], value)
        assert torch.equal(keys[..., :-1, :], case.args[3])
        assert torch.equal(values[..., :-1, :], case.args[4])
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, 2, 7, 5, generator=generator)
    full, _ = scaled_dot_product_attention(query, key, value, causal_mask(7, 7))
    keys, values = key[:, :0], value[:, :0]
    for i in range(7):
        output, keys, values = step(query[:, i], key[:, i], value[:, i], keys, values)
        torch.testing.assert_close(output, full[:, i])


@pytest.mark.parametrize("seed", SEEDS)
def test_train_gpt_the_writer_equals_one_that_reads_everything_again(seed):
    for case in load("train_gpt").question("q7").draw(seed):
        expected = without_a_cache(*case.args)
        new, keys, values = load("train_gpt").question("q7").reference(*case.args)
        assert new == expected[0]
        torch.testing.assert_close((keys, values), expected[1:])


def test_train_gpt_by_hand():
    given = torch.tensor([1 / 2, 1 / 8, 1 / 4, 1 / 4])
    loss = F.nll_loss(torch.stack([given, 1 - given], dim=1).log(), torch.zeros(4, dtype=torch.long))
    assert load("train_gpt").question("q1").reference == pytest.approx(math.exp(loss))
    layer, cache = MultiHeadAttention(1024, 16, n_kv_heads=4, bias=False), LayerCache(2048)
    layer(torch.zeros(1, 2048, 1024), causal=True, cache=cache)
    stored = 24 * sum(side.to(torch.bfloat16).nbytes for side in cache.stored())
    assert load("train_gpt").question("q6").reference == stored / 2**20


@pytest.mark.parametrize("seed", range(10))
def test_train_gpt_by_measurement(seed):
    """The likeliest text by the dynamic programme of Viterbi, in logarithms; greedy one model at a time."""
    chance, same = np.random.default_rng(seed), 0
    for _ in range(3000):
        table = chance.normal(size=(7, 6))
        table = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
        first, after = table[0], table[1:]
        best, token = first, int(first.argmax())
        greedy = first[token]
        for _ in range(3):
            best = (best[:, None] + after).max(axis=0)
            greedy, token = greedy + after[token].max(), int(after[token].argmax())
        same += greedy > best.max() - 1e-9
    assert load("train_gpt").question("q8").accepts(same / 3000)


def probabilities_with_numpy(logits, temperature, k):
    """Row by row, with a threshold and powers."""

    def row(x):
        x = x - x.max()
        if temperature == 0:
            return (x == 0).astype(float)
        powers = np.where(x >= np.sort(x)[::-1][:k][-1], np.exp(x / temperature), 0.0)
        return powers / powers.sum()

    return torch.from_numpy(in_rows(row, logits).reshape(logits.shape))


def probabilities_by_masking(logits, temperature, k):
    """Greedy as a limit; a mask instead of places."""
    place = logits.argsort(dim=-1, descending=True).argsort(dim=-1)
    temperature = max(temperature, 1e-9)
    return (logits.double() / temperature).masked_fill(place >= k, -torch.inf).softmax(dim=-1).float()


def top_p_in_a_loop(probabilities, p):
    if probabilities.ndim > 1:
        return torch.stack([top_p_in_a_loop(row, p) for row in probabilities])
    kept, total = [0.0] * len(probabilities), 0.0
    for i in sorted(range(len(kept)), key=lambda i: -probabilities[i]):
        if total >= p:
            break
        kept[i] = probabilities[i].item()
        total += kept[i]
    return torch.tensor([x / total for x in kept], dtype=torch.float64)


def top_p_by_a_threshold(probabilities, p):
    """The probability of the last token that is needed, and everything from there up."""
    ordered = probabilities.sort(dim=-1, descending=True).values
    needed = (ordered.cumsum(dim=-1) < p).sum(dim=-1, keepdim=True).clamp(max=ordered.shape[-1] - 1)
    kept = probabilities * (probabilities >= ordered.gather(-1, needed))
    return F.normalize(kept, p=1, dim=-1)


def drawn_with_numpy(probabilities, uniform):
    rows = in_rows(lambda row, u: int(np.searchsorted(row.cumsum(), u, side="right")), probabilities, uniform.flatten())
    return torch.from_numpy(rows.reshape(uniform.shape))


def drawn_by_subtraction(probabilities, uniform):
    """Walk along the line until the number is used up."""
    tokens = []
    for row, number in zip(probabilities.flatten(0, -2), uniform.flatten(), strict=True):
        token, left = 0, number - row[0]
        while left >= 0:
            token += 1
            left -= row[token]
        tokens.append(token)
    return torch.tensor(tokens, dtype=torch.int32).view(uniform.shape)


def step_with_torch(query, key, value, keys, values):
    keys, values = torch.cat([keys, key.unsqueeze(-2)], -2), torch.cat([values, value.unsqueeze(-2)], -2)
    mixed = F.scaled_dot_product_attention(query.unsqueeze(-2), keys, values).squeeze(-2)
    return [mixed, keys, values]


def step_in_two_parts(query, key, value, keys, values):
    """Old positions and the new one apart, put together by their sums of powers."""
    d = query.shape[-1]
    old = torch.einsum("...d,...sd->...s", query.double(), keys.double()).div(d**0.5).exp()
    new = (query.double() * key.double()).sum(-1, keepdim=True).div(d**0.5).exp()
    mixed = torch.einsum("...s,...se->...e", old, values.double()) + new * value.double()
    longer = [F.pad(side, (0, 0, 0, 1)) for side in (keys, values)]
    longer[0][..., -1, :], longer[1][..., -1, :] = key, value
    return mixed / (old.sum(-1, keepdim=True) + new), *longer


def without_a_cache(prompt, uniforms, embedding, projections, temperature, k, p):
    """Reads everything again for each token, with the package's attention and distribution."""
    read = list(prompt)
    for uniform in uniforms:
        query, key, value = embedding[read] @ projections
        mixed, _ = scaled_dot_product_attention(query, key, value, causal_mask(len(read), len(read)))
        logits = mixed[-1] @ embedding.mT
        probabilities = next_token_probabilities(logits, temperature=temperature, top_k=k, top_p=p)
        read.append(int(drawn_with_numpy(probabilities[None], uniform[None])))
    return read[len(prompt) :], key, value


def in_double_precision(prompt, uniforms, embedding, projections, temperature, k, p):
    """The prompt at once, in float64, with the functions of this file."""
    embedding, (query, key, value) = embedding.double(), projections.double()
    keys, values = embedding[prompt[:-1]] @ key, embedding[prompt[:-1]] @ value
    tokens = [prompt[-1]]
    for uniform in uniforms:
        x = embedding[tokens[-1]]
        mixed, keys, values = step_with_torch(x @ query, x @ key, x @ value, keys, values)
        probabilities = top_p_in_a_loop(probabilities_with_numpy(mixed @ embedding.T, temperature, k), p)
        tokens.append(drawn_by_subtraction(probabilities[None], uniform[None]).item())
    return tuple(tokens[1:]), keys, values


UNUSUAL = {
    "q2": [probabilities_with_numpy, probabilities_by_masking],
    "q3": [top_p_in_a_loop, top_p_by_a_threshold],
    "q4": [
        drawn_with_numpy,
        drawn_by_subtraction,
        lambda probabilities, uniform: (probabilities.double().cumsum(-1) > uniform[..., None]).int().argmax(-1),
        lambda probabilities, uniform: torch.searchsorted(
            probabilities.cumsum(-1), uniform.unsqueeze(-1), right=True
        ).squeeze(-1),
    ],
    "q5": [step_with_torch, step_in_two_parts],
    "q7": [without_a_cache, in_double_precision],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_train_gpt_right_but_unusual_answers_lose_nothing(question_id):
    question = load("train_gpt").question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
