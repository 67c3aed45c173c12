"""The exercise of `practice/train_gpt`: what becomes of a model's numbers when it writes, and a cache to write fast."""

from typing import Any

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def next_probabilities(logits: Tensor, temperature: float, k: int) -> Tensor:
    """The distribution (..., v) over the k likeliest tokens; temperature 0 leaves the likeliest alone."""
    if temperature == 0:
        temperature, k = 1.0, 1
    kept, ids = logits.topk(min(k, logits.shape[-1]), dim=-1)
    return torch.zeros_like(logits).scatter(-1, ids, (kept / temperature).softmax(dim=-1))


def top_p(probabilities: Tensor, p: float) -> Tensor:
    """The smallest set of likeliest tokens whose probabilities reach p, scaled to sum to one (..., v)."""
    ordered, ids = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.zeros_like(probabilities).scatter(-1, ids, ordered.masked_fill(before >= p, 0.0))
    return kept / kept.sum(dim=-1, keepdim=True)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The first token whose cumulative probability is greater than the number: (..., v) and (...) give (...)."""
    return (probabilities.cumsum(dim=-1) <= uniform[..., None]).sum(dim=-1)


def cache_step(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """One new position: its output (..., e), all keys (..., s + 1, d) and all values (..., s + 1, e)."""
    keys, values = (torch.cat([old, new[..., None, :]], dim=-2) for old, new in ((keys, key), (values, value)))
    return _attend(query, keys, values), keys, values


def _attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = ((keys @ query[..., None])[..., 0] / query.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights[..., None, :] @ values)[..., 0, :]


def generate(
    prompt: list[int], uniforms: Tensor, embedding: Tensor, projections: Tensor, temperature: float, k: int, p: float
) -> tuple[list[int], Tensor, Tensor]:
    """New tokens, one for each number in `uniforms`, and the cache: keys and values of all tokens but the last."""
    keys = values = embedding[:0]
    unread, new = list(prompt), list[int]()
    for uniform in uniforms:
        for token in unread:
            query, key, value = embedding[token] @ projections
            mixed, keys, values = cache_step(query, key, value, keys, values)
        probabilities = top_p(next_probabilities(mixed @ embedding.mT, temperature, k), p)
        unread = [int(draw(probabilities, uniform))]
        new += unread
    return new, keys, values


def _probabilities_cases(draw: Draw) -> list[Case]:
    b, t, v, k = draw.sizes((2, 3), (2, 4), (7, 9), (3, 5))
    return [
        Case("three tokens, the two likeliest", (torch.tensor([1.0, 3.0, 2.0]), 2.0, 2)),
        Case("greedy", (draw.normal(4), 0.0, 3)),
        Case("greedy, several rows", (draw.normal(b, v), 0.0, k)),
        Case("several rows, cold", (2 * draw.normal(b, v), 0.5, k)),
        Case("rows of different height", (draw.normal(2, v) + torch.tensor([[0.0], [30.0]]), 1.5, k)),
        Case("k larger than the vocabulary", (draw.normal(b, t, v), 1.3, v + 1)),
    ]


def _clear_of(draw: Draw, borders: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Numbers between 0 and 1, none of them so near to a border that rounding could decide."""
    while True:
        numbers = torch.rand(shape, generator=draw.generator)
        if bool(((borders - numbers[..., None]).abs() > 1e-3).all()):
            return numbers


def _top_p_cases(draw: Draw) -> list[Case]:
    b, t, v = draw.sizes((2, 3), (4, 5), (6, 9))
    cases = [
        Case("a model that is sure", (torch.tensor([0.03, 0.95, 0.02]), 0.9)),
        Case("two tokens are needed", (torch.tensor([0.3, 0.1, 0.6]), 0.8)),
        Case("two tokens reach p exactly", (torch.tensor([0.125, 0.5, 0.125, 0.25]), 0.75)),
        Case("p = 1", (draw.normal(b, v).softmax(dim=-1), 1.0)),
    ]
    for about, shape in {"several rows": (t, v), "a batch of rows": (b, t, v)}.items():
        probabilities = (2 * draw.normal(*shape)).softmax(dim=-1)
        borders = probabilities.sort(dim=-1, descending=True).values.cumsum(dim=-1)
        cases.append(Case(about, (probabilities, _clear_of(draw, borders.flatten()).item())))
    return cases


def _draw_cases(draw: Draw) -> list[Case]:
    b, t, v = draw.sizes((2, 3), (4, 5), (6, 9))
    cases = [
        Case("three tokens", (torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([0.6]))),
        Case("a number on a border", (torch.tensor([[0.25, 0.25, 0.5]]), torch.tensor([0.25]))),
        Case("a token that cannot come", (torch.tensor([[0.0, 0.5, 0.5]]), torch.tensor([0.0]))),
        Case("two rows", (torch.full((2, 2), 0.5), torch.tensor([0.25, 0.75]))),
    ]
    for about, shape in {"more rows": (t, v), "a batch of rows": (b, t, v)}.items():
        probabilities = draw.normal(*shape).softmax(dim=-1)
        cases.append(Case(about, (probabilities, _clear_of(draw, probabilities.cumsum(dim=-1), shape[:-1]))))
    return cases


def _cache_cases(draw: Draw) -> list[Case]:
    b, h, s, d, e = draw.sizes((2, 3), (4, 5), (6, 8), (9, 12), (2, 4))
    return [
        Case("one old position", (*draw.normal(2, 2), draw.normal(3), draw.normal(1, 2), draw.normal(1, 3))),
        Case("an empty cache", (*draw.normal(2, d), draw.normal(e), draw.normal(0, d), draw.normal(0, e))),
        Case("many old positions", (*draw.normal(2, d), draw.normal(e), draw.normal(s, d), draw.normal(s, e))),
        Case("a batch of heads", (
            *draw.normal(2, b, h, d), draw.normal(b, h, e), draw.normal(b, h, s, d), draw.normal(b, h, s, e))),
    ]  # fmt: skip


def _text(draw: Draw, n_prompt: int, n_new: int, v: int, m: int, temperature: float, k: int) -> tuple[object, ...]:
    """Arguments of `generate`, drawn again until no number and no p is so near to a border that rounding decides."""
    while True:
        prompt, model = draw.sizes(*[(0, v - 1)] * n_prompt), (draw.normal(v, m), draw.normal(3, m, m) / m**0.5)
        uniforms, p = 0.01 + 0.98 * torch.rand(n_new, generator=draw.generator), draw.sizes((80, 95))[0] / 100
        nearby = [generate(prompt, uniforms + e, *model, temperature, k, p - e)[0] for e in (-1e-3, 0.0, 1e-3)]
        if nearby[0] == nearby[1] == nearby[2]:
            return prompt, uniforms, *model, temperature, k, p


def _generate_cases(draw: Draw) -> list[Case]:
    n, v, m, k = draw.sizes((3, 5), (8, 10), (6, 7), (5, 7))
    return [
        Case("one new token", _text(draw, 2, 1, 4, 3, 1.0, 4)),
        Case("greedy", _text(draw, n, 6, v, m, 0.0, k)),
        Case("cold", _text(draw, n, 8, v, m, 0.7, k)),
        Case("hot", _text(draw, n + 1, 9, v, m, 1.8, k)),
    ]


def _one_threshold(logits: Tensor, temperature: float, k: int) -> Tensor:
    lowest = logits.topk(min(k, logits.shape[-1]), dim=-1).values.min()
    kept = logits.masked_fill(logits < lowest, -torch.inf)
    return next_probabilities(kept, temperature, logits.shape[-1])


def _not_rescaled(logits: Tensor, temperature: float, k: int) -> Tensor:
    return next_probabilities(logits, temperature, logits.shape[-1]) * (next_probabilities(logits, 1.0, k) > 0)


def _zeros_take_part(logits: Tensor, temperature: float, k: int) -> Tensor:
    kept = next_probabilities(logits, temperature, k)
    return kept if temperature == 0 else (logits * (kept > 0) / temperature).softmax(dim=-1)


def _drops_the_last(probabilities: Tensor, p: float) -> Tensor:
    ordered, ids = probabilities.sort(dim=-1, descending=True)
    kept = ordered.masked_fill(ordered.cumsum(dim=-1) > p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, ids, kept / kept.sum(dim=-1, keepdim=True))


def _one_too_many(probabilities: Tensor, p: float) -> Tensor:
    ordered, ids = probabilities.sort(dim=-1, descending=True)
    kept = ordered.masked_fill(ordered.cumsum(dim=-1) - ordered > p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, ids, kept / kept.sum(dim=-1, keepdim=True))


def _in_order_of_ids(probabilities: Tensor, p: float) -> Tensor:
    kept = probabilities.masked_fill(probabilities.cumsum(dim=-1) - probabilities >= p, 0.0)
    return kept / kept.sum(dim=-1, keepdim=True)


def _by_likelihood(probabilities: Tensor, uniform: Tensor) -> Tensor:
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    return ids.gather(-1, draw(ordered, uniform)[..., None])[..., 0]


def _blind(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    return _attend(query, keys, values), *cache_step(query, key, value, keys, values)[1:]


def _in_front(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    mixed, keys, values = cache_step(query, key, value, keys, values)
    return mixed, keys.roll(1, dims=-2), values.roll(1, dims=-2)


def _forgetful(prompt: list[int], uniforms: Tensor, *model: Any) -> tuple[Any, ...]:
    new, cache = list[int](), list[Tensor]()
    for uniform in uniforms:
        (token,), *cache = generate([*prompt, *new[-1:]], uniform[None], *model)
        new.append(token)
    return new, *cache


EXERCISE = Exercise(
    name="train_gpt",
    chapter="practice/train_gpt",
    title="Writing, from four probabilities by hand to a text from a cache",
    given={"next_probabilities": next_probabilities, "top_p": top_p, "draw": draw, "cache_step": cache_step},
    questions=(
        Question(
            id="q1",
            title="By hand: perplexity",
            kind="recall",
            points=1,
            minutes=6,
            answer="perplexity",
            expects="the exponential of the mean loss, a number between 1 and 8, right to two digits.",
            reference=4.0,
            hints=(
                "The loss on a character is minus the logarithm of the probability that it was given.",
                "In bits the four losses are whole numbers. Their mean is an exponent; of which base?",
            ),
            misconceptions=(
                Misconception("loss in bits", 2.0, "this is the mean loss in bits; the perplexity is 2 to that power."),
                Misconception("loss in nats", 1.386, "this is the mean loss in nats; its exponential is asked for."),
                Misconception("mean of p", 32 / 9, "the probabilities are averaged; their logarithms should be."),
                Misconception("mean of 1/p", 4.5, "the inverse probabilities are averaged; logarithms should be."),
            ),
            rtol=0.0,
            atol=0.02,
        ),
        Question(
            id="q2",
            title="Temperature and top-k",
            kind="code",
            points=3,
            minutes=12,
            answer="next_probabilities",
            expects="in each row k probabilities that sum to one, all others exactly 0; temperature 0 keeps one token.",
            reference=next_probabilities,
            cases=_probabilities_cases,
            hints=(
                "Cut first, then divide by the temperature, then softmax: what is cut must not take part in the sum.",
                "topk gives the largest logits of each row and their places; scatter puts numbers at such places.",
                "At temperature 0 nothing can be divided: put 1 at the place of the largest logit, and leave early.",
            ),
            misconceptions=(
                Misconception(
                    "multiplied",
                    lambda logits, temperature, k: next_probabilities(logits * temperature, 1.0, k),
                    "the logits are multiplied by the temperature.",
                ),
                Misconception(
                    "no effect",
                    lambda logits, temperature, k: next_probabilities(logits, float(temperature > 0), k),
                    "the temperature divides the probabilities, and scaling them to sum to one takes it out again.",
                ),
                Misconception("not rescaled", _not_rescaled, "the probabilities that are left do not sum to one."),
                Misconception("one threshold", _one_threshold, "all rows share one threshold; each needs its own."),
                Misconception("zeros", _zeros_take_part, "cut logits are set to 0, whose exponential is 1."),
            ),
            forbidden=frozenset({"next_token_probabilities"}),
        ),
        Question(
            id="q3",
            title="Find the bug: speechless when sure",
            kind="find the bug",
            points=3,
            minutes=12,
            answer="top_p",
            expects="the smallest set of likeliest tokens with a sum of at least p, scaled to sum to one; 0 elsewhere.",
            reference=top_p,
            cases=_top_p_cases,
            hints=(
                "Try the probabilities 0.95, 0.03, 0.02 with p = 0.9, and print the cumulative sum.",
                "The token that carries the sum over p belongs to the set. Is it kept?",
                "Ask of each token what the likelier ones already hold: with less than p before it, it is needed.",
            ),
            misconceptions=(
                Misconception("the bug itself", _drops_the_last, "the token that carries the sum over p is dropped."),
                Misconception("one too many", _one_too_many, "a token is kept although those before it reach p."),
                Misconception("order of ids", _in_order_of_ids, "the sum runs in the order of the ids, unsorted."),
                Misconception(
                    "left sorted",
                    lambda probabilities, p: top_p(probabilities, p).sort(dim=-1, descending=True).values,
                    "the result is left in sorted order; every probability must go back to its token.",
                ),
            ),
            forbidden=frozenset({"next_token_probabilities"}),
        ),
        Question(
            id="q4",
            title="Draw",
            kind="code",
            points=2,
            minutes=10,
            answer="draw",
            expects="for each row the first token whose cumulative probability is greater than the row's number.",
            reference=draw,
            cases=_draw_cases,
            hints=(
                "Lay the probabilities end to end on a line from 0 to 1, token 0 first. Where does the number fall?",
                "How many cumulative sums are not greater than the number? Compare, then count along the row.",
            ),
            misconceptions=(
                Misconception("greedy", lambda probabilities, u: probabilities.argmax(-1), "the number is not used."),
                Misconception(
                    "border",
                    lambda probabilities, uniform: (probabilities.cumsum(-1) < uniform[..., None]).sum(-1),
                    "a number exactly on a border falls to the wrong side.",
                ),
                Misconception("one before", lambda p, u: (draw(p, u) - 1).clamp(min=0), "this is the token before it."),
                Misconception("by likelihood", _by_likelihood, "the tokens lie sorted on the line, not by their ids."),
            ),
        ),
        Question(
            id="q5",
            title="One step with a cache",
            kind="code",
            points=2,
            minutes=10,
            answer="cache_step",
            expects="three tensors: the output of the new position, then all keys and all values, the new ones last.",
            reference=cache_step,
            cases=_cache_cases,
            hints=(
                "Lengthen the cache first: then the new position finds itself in it.",
                "The new key lacks the dimension of positions; key[..., None, :] has it, and torch.cat joins.",
                "Then it is attention with one query: scores over the square root of d, softmax, weighted sum.",
            ),
            misconceptions=(
                Misconception("blind", _blind, "the new position does not see itself."),
                Misconception("unscaled", lambda q, *a: cache_step(q * q.shape[-1] ** 0.5, *a), "nothing is scaled."),
                Misconception("in front", _in_front, "the new key and value stand before the old ones."),
                Misconception("not stored", lambda *a: (cache_step(*a)[0], *a[3:]), "the cache does not grow."),
            ),
        ),
        Question(
            id="q6",
            title="By hand: the memory of a cache",
            kind="recall",
            points=1,
            minutes=6,
            answer="mebibytes",
            expects="the memory of all cached keys and values in MiB; it is a whole number.",
            reference=48.0,
            hints=(
                "What does one position leave in one layer? A key and a value for each head that has its own.",
                "Queries are not kept: the number of query heads does not matter. Multiply the rest by powers of two.",
            ),
            misconceptions=(
                Misconception("query heads", 192, "a key and a value are counted for each query head."),
                Misconception("a half", 24, "a factor of two is missing: keys and values, two bytes for each number."),
                Misconception("one layer", 2, "only one layer is counted."),
                Misconception("millions", 50.33, "this is in millions of bytes; a MiB has 1,048,576."),
            ),
            rtol=0.0,
            atol=0.01,
        ),
        Question(
            id="q7",
            title="Design: write a text",
            kind="code",
            points=4,
            minutes=18,
            answer="generate",
            expects="the new tokens, one for each number, then the keys and the values of all that was read, in order.",
            reference=generate,
            cases=_generate_cases,
            hints=(
                "Begin with an empty cache, embedding[:0]. Read the prompt token by token; the last output counts.",
                "A new token is read like one of the prompt, once, and only when the next one is to be drawn.",
                "embedding[token] @ projections has three rows: query, key and value of that token.",
            ),
            misconceptions=(
                Misconception("prompt lost", lambda q, *a: generate(q[-1:], *a), "only the prompt's end is read."),
                Misconception("twice", lambda q, *a: generate([*q, q[-1]], *a), "the prompt's end is read twice."),
                Misconception("forgetful", _forgetful, "new tokens are not kept in the cache."),
                Misconception(
                    "prompt repeated",
                    lambda prompt, *a: ([*prompt, *(made := generate(prompt, *a))[0]], *made[1:]),
                    "the prompt stands before the new tokens.",
                ),
            ),
        ),
        Question(
            id="q8",
            title="Measure: is greedy the likeliest?",
            kind="experiment",
            points=3,
            minutes=16,
            answer="greedy_is_best",
            expects="the share of random models whose greedy text of 4 tokens is the likeliest of all 1296.",
            reference=0.553,
            accepts=lambda value: 0.494 <= value <= 0.612,
            hints=(
                "A model is one row of 6 and one table of 6 by 6 logits; softmax turns each row into probabilities.",
                "A product of 4 probabilities for every text: with broadcasting a tensor of 6 by 6 by 6 by 6.",
                "Greedy takes the best of each row in turn. Compare texts: their probabilities may differ by rounding.",
            ),
            misconceptions=(
                Misconception("always", 1.0, "greedy is compared with itself."),
                Misconception("sums", 0.417, "probabilities are added; those of a text are multiplied."),
                Misconception("three tokens", 0.664, "the texts have three tokens."),
                Misconception("first token", 0.77, "only the first tokens of the two texts are compared."),
            ),
            atol=0.02,
        ),
    ),
)
