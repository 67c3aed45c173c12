"""The exercise of `mathematics/attention`: its references beside torch's own, unusual answers that are right."""

import pytest
import torch
import torch.nn.functional as F

from fmcourse.exercises import load
from fmcourse.exercises.session import examine

SEEDS = tuple(range(100, 120))


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_references_equal_torch(seed):
    exercise = load("attention")
    for case in exercise.question("q3").draw(seed):
        torch.testing.assert_close(exercise.given["softmax"](*case.args), torch.softmax(*case.args, dim=-1))
    for case in exercise.question("q5").draw(seed):
        query, key, value, may_attend = case.args
        while query.ndim < 4:
            query, key, value = query[None], key[None], value[None]
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=may_attend)
        torch.testing.assert_close(exercise.given["attention"](query, key, value, may_attend), expected)
    for case in exercise.question("q7").draw(seed):
        expected = torch.distributions.Categorical(probs=case.args[0]).entropy()
        torch.testing.assert_close(exercise.question("q7").reference(*case.args), expected, rtol=1e-4, atol=1e-5)


def test_attention_by_hand_and_by_measurement():
    exercise = load("attention")
    query, keys = torch.ones(1, 4), torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    weights = torch.softmax(query @ keys.mT / 2, dim=-1)
    assert exercise.question("q1").reference == pytest.approx(weights[0, 0].item())
    generator = torch.Generator().manual_seed(0)
    query, keys = (torch.randn(4000, n, 64, generator=generator) for n in (1, 16))
    measured = torch.softmax(query @ keys.mT, dim=-1).amax(dim=-1).mean().item()
    assert exercise.question("q8").accepts(measured)


def loops(query, key, value, may_attend):
    """Attention, a number at a time, without any matrix product."""
    if query.ndim > 2:
        return torch.stack([loops(*part, may_attend) for part in zip(query, key, value, strict=True)])
    rows = []
    for i, asked in enumerate(query):
        allowed = [j for j in range(len(key)) if may_attend[i, j]]
        powers = [float(torch.exp(torch.dot(asked, key[j]) / len(asked) ** 0.5)) for j in allowed]
        rows.append(sum(p / sum(powers) * value[j] for p, j in zip(powers, allowed, strict=True)))
    return torch.stack(rows)


UNUSUAL = {
    "q2": [
        lambda query, key: torch.einsum("...td,...sd->...ts", query, key).div(query.size(-1) ** 0.5),
        lambda query, key: (query * query.shape[-1] ** -0.5).matmul(key.transpose(-1, -2)),
        lambda query, key: (query.unsqueeze(-2) * key.unsqueeze(-3)).sum(-1) / query.shape[-1] ** 0.5,
    ],
    "q3": [
        lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True)),
        lambda x: 1 / (x.unsqueeze(-2) - x.unsqueeze(-1)).exp().nan_to_num(nan=1.0, posinf=1e30).sum(-1),
    ],
    "q4": [
        lambda scores, may_attend: F.softmax(torch.where(may_attend, scores, torch.tensor(float("-inf"))), dim=-1),
        lambda scores, may_attend: F.normalize(torch.exp(scores) * may_attend, p=1, dim=-1),
    ],
    "q5": [loops, lambda q, k, v, may_attend: F.scaled_dot_product_attention(q, k, v, attn_mask=may_attend)],
    "q6": [
        lambda length, width: torch.ones(length, length).tril().triu(1 - width).bool(),
        lambda length, width: torch.tensor([[0 <= i - j < width for j in range(length)] for i in range(length)]),
    ],
    "q7": [
        lambda weights: torch.special.entr(weights).sum(-1),
        lambda weights: -(weights * weights.clamp(min=1e-30).log()).sum(-1),
    ],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = load("attention").question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
