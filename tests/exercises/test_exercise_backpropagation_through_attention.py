"""The exercise of `mathematics/backpropagation_through_attention`: its references beside autograd, unusual answers."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmcourse.exercises import load
from fmcourse.exercises.session import examine, misconception

SEEDS = tuple(range(100, 120))
NAME = "backpropagation_through_attention"


def gradients(function, inputs, outward):
    """What autograd finds in double precision."""
    leaves = [each.double().requires_grad_() for each in inputs]
    return torch.autograd.grad(function(*leaves), leaves, outward.double())


def close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def tempered(scores, temperature):
    return torch.softmax(scores / temperature, dim=-1)


def head_loss(x, table, targets):
    return F.cross_entropy(x @ table.mT, targets, ignore_index=-100)


def unit(x, gain):
    return gain * F.normalize(x, dim=-1)


def fused(q, k, v, mask):
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, enable_gqa=True)[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_backward_passes_equal_autograd(seed):
    def drawn(question_id):
        question = load(NAME).question(question_id)
        return [(case.args, question.expected(case)) for case in question.draw(seed)]

    for (dp, p, temperature), ds in drawn("q2"):
        scores = temperature * p.double().log()  # a weight of 0 has a score of minus infinity
        close([ds], gradients(partial(tempered, temperature=temperature), [scores], dp))
    for (x, table, targets), ours in drawn("q3"):
        close(ours, gradients(partial(head_loss, targets=targets), [x, table], torch.tensor(1.0)))
    for (dy, x, gain), ours in drawn("q4"):
        close(ours, gradients(unit, [x, gain], dy))
    for (dx, tokens, n_rows), ours in drawn("q5"):
        close([ours], gradients(partial(F.embedding, tokens), [torch.zeros(n_rows, dx.shape[-1])], dx))
    for (do, q, k, v, p), ours in drawn("q6"):
        close(ours, gradients(partial(fused, mask=p > 0), [q, k, v], do))


@pytest.mark.parametrize("seed", SEEDS)
def test_tiles_one_after_the_other_are_attention(seed):
    add_tile = load(NAME).question("q7").reference
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (5, 12, 12))
    may_attend = torch.rand(5, 12, generator=generator) < 0.4
    may_attend[0, :10] = may_attend[1] = False
    may_attend[[0, 2, 3, 4], 11] = True
    output, lse = torch.zeros(5, 6, dtype=torch.float64), torch.full((5,), -torch.inf, dtype=torch.float64)
    for tile in torch.arange(12).split(seed % 4 + 1):
        output, lse = add_tile(output, lse, q, k[tile], v[tile], may_attend[:, tile])
    scores = (q @ k.mT / math.sqrt(6)).masked_fill(~may_attend, -torch.inf)
    expected = (scores.softmax(-1) @ v).nan_to_num()
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(lse, scores.logsumexp(-1))
    assert lse[1] == -torch.inf


def test_the_logits_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]] * 4)).requires_grad_()
    F.cross_entropy(logits, torch.tensor([1, 0, 0, 0])).backward()
    assert load(NAME).question("q1").reference == pytest.approx(logits.grad[0].tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_decade", [1, 2, 5])
def test_the_best_step_by_numpy(seed, per_decade):
    """Every grid and every kind of average gives a step that is accepted; other differences give others."""
    generator = np.random.default_rng(seed)
    z, u = generator.standard_normal((2, 500, 10))

    def best(two_sided=False, kind=np.float64, average=np.median):
        def loss(z):
            z = z.astype(kind)
            top = z.max(axis=1, keepdims=True)
            return np.log(np.exp(z - top).sum(axis=1)) + top[:, 0] - z[:, 0]

        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        exact = (p * u).sum(axis=1) - u[:, 0]

        def error(exponent):
            h = 10.0**exponent
            other = loss(z - h * u) if two_sided else loss(z)
            return average(np.abs((loss(z + h * u) - other) / (h * (1 + two_sided)) - exact))

        return min(np.arange(-14 * per_decade, 1 - per_decade) / per_decade, key=error)

    question = load(NAME).question("q8")
    assert question.accepts(best())
    assert question.accepts(best(average=np.mean))
    for wrong, name in ((best(two_sided=True), "two-sided"), (best(kind=np.float32), "single precision")):
        assert not question.accepts(wrong)
        assert misconception(question, float(wrong), SEEDS).name == name


def by_jacobian(dp, p, temperature):
    jacobian = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    return torch.einsum("...ij,...j->...i", jacobian / temperature, dp)


def softmax_loop(dp, p, temperature):
    ds = torch.zeros_like(p)
    for row in np.ndindex(p.shape[:-1]):
        for i in range(p.shape[-1]):
            ds[row][i] = (
                sum(dp[row][j] * p[row][j] * (float(i == j) - p[row][i]) for j in range(p.shape[-1])) / temperature
            )
    return ds


def head_loop(x, table, targets):
    dx, dtable, n = torch.zeros_like(x), torch.zeros_like(table), sum(target >= 0 for target in targets.tolist())
    for i, target in enumerate(targets.tolist()):
        if target < 0:
            continue
        p = torch.softmax(table @ x[i], dim=0)
        p[target] -= 1
        dx[i] = table.T @ p / n
        dtable += torch.outer(p, x[i]) / n
    return dx, dtable


def head_one_hot(x, table, targets):
    x, table = x.double(), table.double()
    kept = targets != -100
    logits = x[kept] @ table.T
    p = (logits - logits.logsumexp(dim=1, keepdim=True)).exp()
    dz = (p - F.one_hot(targets[kept].long(), len(table))) / kept.sum()
    dx = torch.zeros_like(x)
    dx[kept] = dz @ table
    return dx, torch.einsum("tv,tm->vm", dz, x[kept])


def unit_by_matrix(dy, x, gain):
    """With the whole Jacobian of each vector."""
    length = x.norm(dim=-1, keepdim=True)[..., None]
    jacobian = (torch.eye(x.shape[-1]) - x.unsqueeze(-1) * x.unsqueeze(-2) / length**2) / length
    dgain = (dy * x / length[..., 0]).sum(dim=tuple(range(x.ndim - 1)))
    return (jacobian @ (gain * dy).unsqueeze(-1)).squeeze(-1), dgain


def unit_by_quotient(dy, x, gain):
    """d(x / r) = dx / r - x dr / r^2, in double precision, a row at a time."""
    dx, dgain = torch.zeros_like(x, dtype=torch.float64), torch.zeros_like(gain, dtype=torch.float64)
    for row in np.ndindex(x.shape[:-1]):
        one, back = x[row].double(), dy[row].double()
        r = torch.sqrt(one @ one)
        dx[row] = gain * back / r - one * (one @ (gain * back)) / r**3
        dgain += back * one / r
    return dx, dgain


def embedding_one_hot(dx, tokens, n_rows):
    return torch.einsum("btv,btm->vm", F.one_hot(tokens.long(), n_rows).to(dx), dx)


def embedding_loop(dx, tokens, n_rows):
    table = torch.zeros(n_rows, dx.shape[-1], dtype=dx.dtype)
    for i in range(tokens.shape[0]):
        for j in range(tokens.shape[1]):
            table[tokens[i, j]] += dx[i, j]
    return table


def embedding_put(dx, tokens, n_rows):
    return dx.new_zeros(n_rows, dx.shape[2]).index_put((tokens,), dx, accumulate=True)


def attention_loop(do, q, k, v, p):
    """Head by head, key by key."""
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for head in range(len(q)):
        g = head // (len(q) // len(k))
        for i in range(q.shape[1]):
            dp = v[g] @ do[head, i]
            average = p[head, i] @ dp
            for j in range(k.shape[1]):
                ds = p[head, i, j] * (dp[j] - average) / math.sqrt(q.shape[2])
                dq[head, i] += ds * k[g, j]
                dk[g, j] += ds * q[head, i]
                dv[g, j] += p[head, i, j] * do[head, i]
    return dq, dk, dv


def attention_einsum(do, q, k, v, p):
    """Query heads as (g, shared); the average is <do, o>, as in FlashAttention."""
    g = len(k)
    do, q, k, v, p = (each.double() for each in (do, q, k, v, p))
    do, q, p = (each.reshape(g, -1, *each.shape[1:]) for each in (do, q, p))
    average = (do * torch.einsum("grts,gse->grte", p, v)).sum(dim=-1, keepdim=True)
    ds = p * (torch.einsum("grte,gse->grts", do, v) - average) * q.shape[-1] ** -0.5
    dq = torch.einsum("grts,gsd->grtd", ds, k).flatten(0, 1)
    return dq, torch.einsum("grts,grtd->gsd", ds, q), torch.einsum("grts,grte->gse", p, do)


def tile_with_maximum(output, lse, q, k, v, may_attend):
    """The running maximum and sum of the chapter."""
    scores = torch.where(may_attend, q @ k.T / math.sqrt(q.shape[1]), torch.tensor(-torch.inf))
    top = torch.maximum(lse, scores.max(dim=1).values)
    top = torch.where(top.isinf(), 0.0, top)
    old, new = torch.exp(lse - top), torch.exp(scores - top[:, None])
    total = old + new.sum(dim=1)
    output = (old[:, None] * output + new @ v) / total[:, None].clamp(min=1e-30)
    return output, top + total.log()


def tile_loop(output, lse, q, k, v, may_attend):
    """Key by key, in double precision."""
    output, lse = output.double(), lse.double()
    for i in range(len(q)):
        for j in range(len(k)):
            if may_attend[i, j]:
                score = (q[i].double() @ k[j].double()) / math.sqrt(q.shape[1])
                share = torch.sigmoid(score - lse[i])
                output[i] = (1 - share) * output[i] + share * v[j]
                lse[i] = torch.logaddexp(lse[i], score)
    return [output, lse]


UNUSUAL = {
    "q2": [by_jacobian, softmax_loop, lambda dp, p, temperature: by_jacobian(dp.double(), p.double(), temperature)],
    "q3": [head_loop, head_one_hot],
    "q4": [unit_by_matrix, unit_by_quotient],
    "q5": [embedding_one_hot, embedding_loop, embedding_put],
    "q6": [attention_loop, attention_einsum],
    "q7": [tile_with_maximum, tile_loop],
}


@pytest.mark.parametrize(("question_id", "answer"), [(name, answer) for name in UNUSUAL for answer in UNUSUAL[name]])
def test_right_but_unusual_answers_lose_nothing(question_id, answer):
    assert examine(load(NAME).question(question_id), answer, SEEDS) is None


def test_the_bug_that_is_handed_out_is_recognised():
    def handed_out(dx, tokens, n_rows):
        table = dx.new_zeros(n_rows, dx.shape[-1])
        table[tokens] += dx
        return table

    question = load(NAME).question("q5")
    assert examine(question, handed_out, (1,)) is not None
    assert misconception(question, handed_out, SEEDS).name == "the bug itself"
    five_words = (torch.randn(1, 5, 3), torch.tensor([[4, 0, 2, 1, 3]]), 6)
    assert torch.equal(handed_out(*five_words), question.reference(*five_words))
