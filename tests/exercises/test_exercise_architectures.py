"""The exercise of `concepts/architectures`: real models on the meta device, torch's counters, unusual right answers."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.layers import TransformerBlock
from fmcourse.transformer import GPT, TransformerConfig, count_parameters

SEEDS = tuple(range(100, 120))
EXERCISE = load("architectures")


def cases(question_id, seed):
    question = EXERCISE.question(question_id)
    return [(case.args, question.reference(*case.args)) for case in question.draw(seed)]


def drawn(text):
    return torch.tensor([[mark == "1" for mark in row] for row in text.split()])


def test_the_masks_of_the_chapter():
    joint_mask = EXERCISE.question("q2").reference
    assert torch.equal(joint_mask(2, 2), drawn("1100 1100 1110 1111"))
    assert torch.equal(joint_mask(0, 4), drawn("1000 1100 1110 1111"))
    assert joint_mask(4, 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_influence_is_where_gradients_of_real_blocks_are_not_zero(seed):
    torch.manual_seed(seed)
    config = TransformerConfig(vocab_size=2, context=20, d_model=16, n_heads=2)
    for (may_attend, n_blocks), found in cases("q3", seed):
        # A block refuses a row that allows nothing. A position that may see itself hears nothing new.
        empty = torch.diag(~may_attend.any(dim=1))
        x = torch.randn(1, len(may_attend), 16, dtype=torch.float64, requires_grad=True)
        y = x
        for block in [TransformerBlock(config).double() for _ in range(n_blocks)]:
            y = block(y, may_attend=may_attend | empty)
        rows = [torch.autograd.grad(row.square().sum(), x, retain_graph=True)[0][0] for row in y[0]]
        assert torch.equal(torch.stack(rows).norm(dim=-1) > 0, found)


@pytest.mark.parametrize("seed", SEEDS)
def test_patches_are_squares_of_the_picture(seed):
    for (pictures, patch), found in cases("q4", seed):
        across = pictures.shape[2] // patch
        for b, i in itertools.product(range(len(pictures)), range(found.shape[1])):
            top, left = patch * (i // across), patch * (i % across)
            square = pictures[b, top : top + patch, left : left + patch]
            assert torch.equal(found[b, i], square.flatten())


def modules_of_a_block(d, d_ff, n_heads, n_kv_heads, gated, bias):
    shared = d // n_heads * n_kv_heads
    sizes = [(d, d), (d, shared), (d, shared), (d, d), (d, d_ff), (d_ff, d)] + [(d, d_ff)] * gated
    return nn.ModuleList([nn.Linear(*size, bias=bias) for size in sizes] + [nn.LayerNorm(d, bias=bias) for _ in "ab"])


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_of_blocks_and_operations_are_torchs(seed):
    blocks, passes = cases("q5", seed), cases("q6", seed)
    with torch.device("meta"):
        for args, found in blocks:
            assert found == sum(p.numel() for p in modules_of_a_block(*args).parameters())
        for (n, d, d_ff, n_blocks), found in passes:
            x = torch.empty(n, d)
            with FlopCounterMode(display=False) as counter:
                for _ in range(n_blocks):
                    q, k, v = (F.linear(x, torch.empty(d, d)) for _ in "qkv")
                    F.linear((q @ k.mT) @ v, torch.empty(d, d))
                    F.linear(F.linear(x, torch.empty(d_ff, d)), torch.empty(d, d_ff))
            assert 2 * found == counter.get_total_flops()


def test_counts_of_published_blocks_are_those_of_transformers():
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    block = EXERCISE.given["block_parameters"]
    with torch.device("meta"):
        for kv in (32, 8):
            config = LlamaConfig(num_hidden_layers=2, num_key_value_heads=kv)
            d, ff, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
            tables = 2 * config.vocab_size * d + d  # words, a head of its own, the last norm
            theirs = sum(p.numel() for p in LlamaForCausalLM(config).parameters())
            assert 2 * block(d, ff, heads, kv, True, False) + tables == theirs
        gpt2 = GPT2Config()
        theirs = sum(p.numel() for p in GPT2LMHeadModel(gpt2).parameters())
    assert theirs == 12 * block(768, 3072, 12, 12, False, True) + (50_257 + 1024) * 768 + 2 * 768 == 124_439_808


def parameters_of_a_real_gpt(d, n_blocks, vocabulary, context):
    sizes = {"vocab_size": vocabulary, "context": context, "n_layers": n_blocks}
    with torch.device("meta"):
        return count_parameters(GPT(TransformerConfig(d_model=d, n_heads=d // 64, **sizes)))


@pytest.mark.parametrize("seed", SEEDS[:5])
def test_the_widest_model_is_found_by_building_models(seed):
    for (budget, size, *sizes), found in cases("q7", seed):
        assert found % 64 == 0
        assert size * parameters_of_a_real_gpt(found, *sizes) <= budget
        assert size * parameters_of_a_real_gpt(found + 64, *sizes) > budget
    assert cases("q7", seed)[1][1] == 768
    assert cases("q7", seed)[2][1] == 704


def test_the_memory_by_hand():
    block = EXERCISE.given["block_parameters"](1000, 4000, 10, 10, False, True)
    assert 100 * block * 2 / 1e9 == pytest.approx(EXERCISE.question("q1").reference, rel=2e-3)


def measure(seed, n=32, masks=400):
    """Walk from every position along its looks, with sets of positions, until all have heard of all."""
    generator, total = torch.Generator().manual_seed(seed), 0
    for _ in range(masks):
        extra = torch.randint(n, (n,), generator=generator).tolist()
        sees = [{j for j in (i - 1, i, i + 1, extra[i]) if 0 <= j < n} for i in range(n)]
        knows = [{i} for i in range(n)]
        while min(map(len, knows)) < n:
            knows = [set().union(*(knows[j] for j in sees[i])) for i in range(n)]
            total += 1
    return total / masks


def test_the_measurement_is_accepted_from_any_seed():
    values = [measure(seed) for seed in range(8)]
    accepts = EXERCISE.question("q8").accepts
    assert all(map(accepts, values)), values
    spread = 1.03 / 400**0.5  # a single mask: 1.02 to 1.03
    assert abs(sum(values) / len(values) - 7.32) < 1.5 * spread
    assert accepts(7.32 + 5.8 * spread)
    assert accepts(7.32 - 5.8 * spread)
    assert not any(map(accepts, range(32)))  # a single mask gives a whole number


def influence_by_walking(may_attend, n_blocks):
    found = torch.zeros_like(may_attend)
    for i in range(len(may_attend)):
        reached = {i}
        for _ in range(n_blocks):
            reached |= {j for k in reached for j in may_attend[k].nonzero().flatten().tolist()}
        found[i, list(reached)] = True
    return found


def cut_by_unfolding(pictures, patch):
    b, channels = len(pictures), pictures.shape[-1]
    strips = F.unfold(pictures.movedim(-1, 1), patch, stride=patch)  # b (c p q) n
    return strips.reshape(b, channels, patch * patch, -1).permute(0, 3, 2, 1).flatten(2)


def cut_by_slices(pictures, patch):
    rows, columns = (range(0, side, patch) for side in pictures.shape[1:3])
    squares = [pictures[:, r : r + patch, c : c + patch].flatten(1) for r in rows for c in columns]
    return torch.stack(squares, dim=1)


def widest_by_solving(budget, size, n_blocks, vocabulary, context):
    """12 L d^2 + (13 L + v + T + 2) d = budget / size, a quadratic equation."""
    a, b, c = 12 * n_blocks, 13 * n_blocks + vocabulary + context + 2, -(budget // size)
    guess = int((-b + (b * b - 4 * a * c) ** 0.5) / (2 * a) + 1e-6)
    return torch.tensor(guess // 64 * 64)


def widest_downwards(budget, size, n_blocks, vocabulary, context):
    return next(
        d
        for d in range(64 * 64, 0, -64)
        if size * (12 * n_blocks * d * d + (13 * n_blocks + vocabulary + context + 2) * d) <= budget
    )


UNUSUAL = {
    "q2": [
        lambda s, t: torch.tensor([[j < s or j <= i for j in range(s + t)] for i in range(s + t)]),
        lambda s, t: torch.cat(
            [torch.ones(s + t, s), torch.cat([torch.zeros(s, t), torch.ones(t, t).tril()])], dim=1
        ).bool(),
    ],
    "q3": [
        influence_by_walking,
        lambda may_attend, n: torch.linalg.matrix_power(may_attend.double() + torch.eye(len(may_attend)), n) > 0,
    ],
    "q4": [cut_by_unfolding, cut_by_slices],
    "q5": [
        lambda *args: count_of(modules_of_a_block(*args)),
        lambda d, f, h, k, gated, bias: torch.tensor(
            2 * d * d
            + 2 * d * d * k // h
            + (2 + gated) * d * f
            + bias * (5 * d + 2 * d * k // h + f + gated * f)
            + 2 * d
        ),
    ],
    "q6": [
        lambda n, d, d_ff, n_blocks: sum(4 * n * d**2 + 2 * n * d * d_ff + 2 * d * n**2 for _ in range(n_blocks)),
        lambda n, d, d_ff, n_blocks: torch.tensor(2 * n_blocks * n * d) * (2 * d + d_ff + n),
    ],
    "q7": [widest_by_solving, widest_downwards],
}


def count_of(modules):
    return sum(p.numel() for p in modules.parameters())


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None
