"""The signal laboratory shows what automatic differentiation finds in the same random network."""

import math

import pytest
import torch
import torch.nn.functional as F

from fmcourse.widgets.signal_lab import INPUTS, WIDTH, noise, propagate

PAGE = "mathematics/mlp_and_residual_stream"
FUNCTIONS = {"linear": lambda x: x, "tanh": torch.tanh, "relu": F.relu}
FUNCTIONS["gelu"] = lambda x: F.gelu(x, approximate="tanh")
LAYERS = [
    ("relu", False, "none", 1.0, 64),
    ("relu", False, "none", 1.42, 64),
    ("tanh", True, "none", 0.8, 32),
    ("gelu", True, "before", 1.2, 64),
    ("linear", False, "before", 2.0, 16),
    ("gelu", True, "after", 1.0, 64),
    ("tanh", False, "after", 1.6, 8),
]


def by_autograd(name, residual, norm, scale, depth, seed=1):
    """The two curves, by torch."""
    count = INPUTS * WIDTH
    numbers = torch.tensor(noise(seed, 2 * count + depth * WIDTH**2))
    x = numbers[:count].view(INPUTS, WIDTH).clone().requires_grad_()
    xs = [x]
    for w in numbers[2 * count :].view(depth, WIDTH, WIDTH) * scale / math.sqrt(WIDTH):
        read = F.rms_norm(x, (WIDTH,), eps=1e-5) if norm == "before" else x
        x = F.linear(FUNCTIONS[name](read), w) + (x if residual else 0)
        x = F.rms_norm(x, (WIDTH,), eps=1e-5) if norm == "after" else x
        xs.append(x)
    slopes = torch.autograd.grad(x, xs, numbers[count : 2 * count].view(INPUTS, WIDTH))
    return [[t.square().mean().sqrt().item() for t in tensors] for tensors in (xs, slopes)]


def test_noise_is_spread_as_promised():
    numbers = noise(1, 200_000)
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.var() - 1) < 0.01
    assert abs((numbers[1:] * numbers[:-1]).mean()) < 0.01


@pytest.mark.parametrize(("name", "residual", "norm", "scale", "depth"), LAYERS)
def test_python_agrees_with_automatic_differentiation(name, residual, norm, scale, depth):
    ours = propagate(depth=depth, scale=scale, name=name, residual=residual, norm=norm)
    for one, other in zip(ours, by_autograd(name, residual, norm, scale, depth), strict=True):
        assert one.tolist() == pytest.approx(other, rel=1e-8)


def test_numbers_equal_pythons_for_every_layer(figure):
    lab = figure(PAGE, "signal_lab")
    words = lab.state["labels"]
    for name, residual, norm, scale, depth in LAYERS:
        lab.set("activation", words[name])
        lab.set("norm", words[norm])
        lab.set("residual", residual)
        lab.set("scale", round((scale - 0.4) / 0.02))
        lab.set("depth", depth)
        sizes, gradients = propagate(depth=depth, scale=scale, name=name, residual=residual, norm=norm)
        shown = lab.numbers()
        assert [shown[f"signal[{i}]"] for i in range(depth + 1)] == pytest.approx(sizes.tolist(), rel=1e-6)
        assert [shown[f"gradient[{i}]"] for i in range(depth + 1)] == pytest.approx(gradients.tolist(), rel=1e-6)
        assert shown["end"] == pytest.approx(sizes[-1] / sizes[0], rel=1e-6)
        assert shown["back"] == pytest.approx(gradients[0] / gradients[-1], rel=1e-6)
        assert shown["per_layer"] == pytest.approx((sizes[-1] / sizes[0]) ** (1 / depth), rel=1e-6)


def test_keyboard_moves_the_scale(figure):
    lab = figure(PAGE, "signal_lab")
    before = lab.numbers()["end"]
    lab.press("scale", "ArrowRight", times=5)
    assert lab.numbers()["end"] > before
    lab.press("residual", "Space")
    assert lab.numbers()["end"] > 1


def test_controls_are_named_and_fit_a_phone(figure):
    lab = figure(PAGE, "signal_lab", width=360)
    assert lab.root.locator("[data-trait]").count() == 5
    for control in lab.root.locator("[data-trait]").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
        assert control.evaluate("(e) => e.labels.length") == 1
    assert lab.root.get_by_role("group", name=lab.state["label"]).count() == 1
