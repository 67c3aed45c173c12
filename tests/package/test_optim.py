"""Muon equals torch's step for step; schedules equal their closed forms and torch's schedulers."""

import copy
import math

import pytest
import torch
from builders import assert_same, config, draw, ids, randomise
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from fmcourse.optim import Muon, make_optimizers, orthogonalise, schedule_factor, set_learning_rate
from fmcourse.transformer import GPT

SHAPES = {
    "equal": [(12, 7)] * 4,
    "different": [(5, 9), (9, 5), (1, 6), (6, 1), (8, 8)],
    "mixed": [(12, 7), (5, 9), (12, 7), (7, 12), (5, 9)],
}
SETTINGS = [
    {},
    {"momentum": 0.8, "nesterov": False},
    {"weight_decay": 0.3, "lr": 0.1},
    {"ns_steps": 3},
    {"ns_coefficients": (2.0, -1.5, 0.5)},
    {"adjust_lr_fn": "match_rms_adamw"},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_muon_equals_torchs_over_several_steps(shapes, settings):
    """To a fiftieth of what six steps move: both iterate in bfloat16, and a batch of products rounds differently."""
    start = [draw(*shape, seed=i).detach() for i, shape in enumerate(SHAPES[shapes])]
    ends = []
    for optimizer_class in (Muon, torch.optim.Muon):
        params = [nn.Parameter(p.clone()) for p in start]
        optimizer = optimizer_class(params, **{"lr": 0.02, "weight_decay": 0.1, **settings})
        for step in range(6):
            for i, p in enumerate(params):
                p.grad = draw(*p.shape, seed=100 * step + i).detach()
            optimizer.step()
        ends.append([p.detach() for p in params])
    for before, ours, theirs in zip(start, *ends, strict=True):
        assert float((ours - theirs).norm()) < 0.02 * float((theirs - before).norm())


def test_muon_moves_only_what_has_a_gradient_and_runs_a_closure():
    moved, still = nn.Parameter(draw(4, 3).detach()), nn.Parameter(draw(4, 3, seed=1).detach())
    before = copy.deepcopy((moved.data, still.data))
    optimizer = Muon([moved, still], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = moved.square().sum()
        loss.backward()
        return loss.item()

    assert float(optimizer.step(closure)) == pytest.approx(float(before[0].square().sum()))
    assert float((moved - before[0]).detach().abs().max()) > 0.01
    assert torch.equal(still.data, before[1])


def test_muon_state_is_torchs_state():
    """A checkpoint of one goes on in the other: same names, same buffers."""
    p, q = nn.Parameter(draw(4, 3).detach()), nn.Parameter(draw(4, 3).detach())
    ours, theirs = Muon([p], lr=0.1), torch.optim.Muon([q], lr=0.1)
    for optimizer, parameter in ((ours, p), (theirs, q)):
        parameter.grad = draw(4, 3, seed=5).detach()
        optimizer.step()
    assert_same(ours.state_dict()["state"], theirs.state_dict()["state"], atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 5, 5), (4, 3, 17), (2, 17, 3), (3, 1, 6), (2, 64, 48)])
def test_orthogonalise_brings_all_singular_values_near_one_and_keeps_the_directions(shape):
    matrices = draw(*shape).detach()
    given = orthogonalise(matrices).float()
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ given @ right.mT  # diagonal if the singular vectors were kept
    values = torch.linalg.svdvals(given)
    assert given.shape == shape
    assert float(values.max()) < 1.25
    assert float(values.min()) > 0.3  # five steps bring all but the very smallest to 0.7
    assert float((inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max()) < 0.05


def test_orthogonalise_does_each_matrix_by_itself_and_stands_zeros():
    matrices = draw(3, 6, 4).detach()
    matrices[1] = 0
    alone = torch.cat([orthogonalise(matrix[None]) for matrix in matrices])
    assert_same(orthogonalise(matrices).float(), alone.float(), atol=0.02)
    assert float(alone[1].abs().max()) == 0.0


# -------------------------------------------------------------------------------------------------------------- groups


def test_every_parameter_is_in_exactly_one_group_with_the_right_decay():
    model = randomise(GPT(config(tie_embeddings=False)))
    for name in ("adamw", "muon"):
        optimizers = make_optimizers(model, name=name, lr=0.5, matrix_lr=0.25, weight_decay=0.125)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        grouped = [p for group in groups for p in group["params"]]
        assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
        assert len(grouped) == len({id(p) for p in grouped})
        of = {id(p): (type(o).__name__, g) for o in optimizers for g in o.param_groups for p in g["params"]}
        for parameter_name, p in model.named_parameters():
            kind, group = of[id(p)]
            matrix_inside = p.ndim == 2 and "blocks." in parameter_name
            assert kind == ("Muon" if name == "muon" and matrix_inside else "AdamW"), parameter_name
            assert group["peak_lr"] == group["lr"] == (0.25 if kind == "Muon" else 0.5)
            decayed = 0.125 if p.ndim == 2 and kind == "AdamW" else 0.0
            assert group["weight_decay"] == decayed, parameter_name


def test_frozen_parameters_are_left_out():
    model = randomise(GPT(config(tie_embeddings=False)))
    model.decoder.tokens.weight.requires_grad_(False)
    for name in ("adamw", "muon"):
        groups = [g for o in make_optimizers(model, name=name, lr=0.1) for g in o.param_groups]
        assert all(p.requires_grad for group in groups for p in group["params"])


def test_unknown_optimiser_names_the_choices():
    with pytest.raises(ValueError, match="name='sgd' is not known; choose one of 'adamw', 'muon'"):
        make_optimizers(GPT(config()), name="sgd", lr=0.1)


# ----------------------------------------------------------------------------------------------------------- schedules


def torch_rates(make, steps):
    """Learning rates, as fractions of 1, that a torch scheduler gives in so many steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_cosine_schedule_equals_torchs(steps, floor):
    wanted = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=steps, eta_min=floor), steps)
    given = [schedule_factor(step, steps, schedule="cosine", floor=floor) for step in range(steps)]
    assert given == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("steps", "warmup"), [(50, 7), (11, 1), (30, 0)])
def test_warmup_then_cosine_equals_torchs(steps, warmup):
    def make(optimizer):
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=0.1)
        if not warmup:
            return cosine
        rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        return lr_scheduler.SequentialLR(optimizer, [rise, cosine], milestones=[warmup])

    given = [schedule_factor(step, steps, schedule="cosine", warmup=warmup, floor=0.1) for step in range(steps)]
    assert given == pytest.approx(torch_rates(make, steps), abs=1e-12)


def test_trapezoid_rises_stays_and_falls_in_straight_lines():
    factors = [schedule_factor(s, 100, schedule="trapezoid", warmup=9, cooldown=0.2, floor=0.2) for s in range(101)]
    assert factors[:9] == pytest.approx([(step + 1) / 10 for step in range(9)])
    assert factors[9:81] == [1.0] * 72
    assert factors[80:] == pytest.approx([1 - 0.8 * k / 20 for k in range(21)])
    assert schedule_factor(61, 100, schedule="trapezoid", floor=0.0) == pytest.approx(39 / 40)  # 40 % by default
    assert schedule_factor(60, 100, schedule="trapezoid", floor=0.0) == 1.0


def test_constant_schedule_is_constant_after_the_warmup():
    factors = [schedule_factor(step, 20, schedule="constant", warmup=3) for step in range(20)]
    assert factors == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 17)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "trapezoid"])
@pytest.mark.parametrize(("steps", "warmup", "cooldown"), [(1, 0, 0.4), (5, 5, 0.0), (10, 3, 1.0), (3, 10, 0.3)])
def test_schedules_stay_between_zero_and_one_whatever_the_sizes(schedule, steps, warmup, cooldown):
    options = {"schedule": schedule, "warmup": warmup, "cooldown": cooldown, "floor": 0.0}
    assert all(0.0 <= schedule_factor(step, steps, **options) <= 1.0 for step in range(steps))
    assert schedule_factor(0, steps, **options) > 0.0


def test_unknown_schedule_names_the_choices():
    with pytest.raises(ValueError, match="schedule='linear' is not known; choose one of 'constant', 'cosine'"):
        schedule_factor(0, 10, schedule="linear")


def test_learning_rates_are_fractions_of_each_groups_peak():
    optimizers = make_optimizers(GPT(config()), name="muon", lr=0.5, matrix_lr=0.25)
    for factor in (0.5, 0.125, 1.0):
        set_learning_rate(optimizers, factor)
        rates = {type(o).__name__: [g["lr"] for g in o.param_groups] for o in optimizers}
        assert rates == {"AdamW": [0.5 * factor] * 2, "Muon": [0.25 * factor]}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_both_optimisers_learn_a_repeating_text(name):
    torch.manual_seed(0)
    model, tokens = GPT(config()), ids(23, 1, 5).repeat(4, 4)[:, :17]
    optimizers = make_optimizers(model, name=name, lr=1e-2)
    for _ in range(40):
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert float(loss.detach()) < 0.1 < math.log(5)
