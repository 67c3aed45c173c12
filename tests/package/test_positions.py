"""The four position schemes equal their published formulas, and only they make word order matter."""

import cmath
import math

import pytest
import torch
from builders import POSITIONS, assert_same, config, draw, ids, randomise
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fmcourse.positions import Rotary, SinusoidalPositions, alibi_bias, alibi_slopes, sinusoidal
from fmcourse.transformer import BERT


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("length", "width"), [(1, 2), (7, 6), (50, 10)])
def test_sinusoidal_table_equals_the_papers_formula(length, width):
    wanted = torch.empty(length, width)
    for place in range(length):
        for i in range(width // 2):
            wanted[place, 2 * i] = math.sin(place / 10_000 ** (2 * i / width))
            wanted[place, 2 * i + 1] = math.cos(place / 10_000 ** (2 * i / width))
    assert_same(sinusoidal(length, width), wanted)


@pytest.mark.usefixtures("float64")
def test_sinusoidal_positions_look_the_table_up():
    places = torch.tensor([[3, 0, 8], [1, 1, 5]])
    assert_same(SinusoidalPositions(9, 4)(places), sinusoidal(9, 4)[places])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("d", "base"), [(2, 10_000.0), (6, 500.0), (10, 100_000.0)])
def test_rotary_multiplies_complex_pairs_by_unit_numbers(d, base):
    x, places = draw(2, 3, 4, d).detach(), torch.tensor([[0, 1, 7, 30], [5, 5, 2, 11]])
    given = Rotary(31, d, base)(places)(x)
    for b in range(2):
        for h in range(3):
            for t in range(4):
                for i in range(d // 2):
                    number = complex(x[b, h, t, i], x[b, h, t, i + d // 2])
                    turned = number * cmath.exp(1j * int(places[b, t]) * base ** (-2 * i / d))
                    assert abs(complex(given[b, h, t, i], given[b, h, t, i + d // 2]) - turned) < 1e-12


@pytest.mark.usefixtures("float64")
def test_rotary_equals_the_llama_implementation_of_transformers():
    query, key = draw(2, 6, 9, 10).detach(), draw(2, 3, 9, 10, seed=1).detach()
    angle = torch.arange(9)[:, None] * 10_000.0 ** (-torch.arange(0, 10, 2) / 10)
    both = torch.cat([angle, angle], dim=-1)[None]
    rotate = Rotary(9, 10)(torch.arange(9))
    assert_same((rotate(query), rotate(key)), apply_rotary_pos_emb(query, key, both.cos(), both.sin()))


@pytest.mark.usefixtures("float64")
def test_rotary_scores_depend_on_the_distance_alone():
    query, key, rotary = draw(1, 1, 1, 8).detach(), draw(1, 1, 1, 8, seed=1).detach(), Rotary(200, 8)

    def score(i, j):
        return (rotary(torch.tensor([i]))(query) * rotary(torch.tensor([j]))(key)).sum()

    for i, j, shift in [(0, 0, 9), (5, 2, 100), (7, 30, 150), (3, 2, 196)]:
        assert_same(score(i, j), score(i + shift, j + shift))
    assert abs(score(5, 2) - score(2, 5)) > 1e-3
    assert abs(score(5, 2) - score(5, 3)) > 1e-3


def test_rotary_angles_are_exact_far_out_in_float32():
    ones = torch.cat([torch.ones(32), torch.zeros(32)]).reshape(1, 1, 1, 64)
    turned = Rotary(8192, 64)(torch.tensor([8191]))(ones).flatten().double()
    angles = [8191 * 10_000.0 ** (-2 * i / 64) for i in range(32)]
    exact = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
    assert_same(turned, torch.tensor(exact, dtype=torch.float64), atol=1e-7)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20])
def test_alibi_slopes_equal_bloom(heads):
    bloom = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)  # slope times position, here 0 and 1
    assert_same(alibi_slopes(heads), bloom.reshape(heads, 2)[:, 1], atol=1e-7)


def test_alibi_slopes_of_eight_heads_are_the_papers():
    assert alibi_slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_alibi_bias_is_minus_slope_times_distance():
    queries, keys = torch.tensor([[4, 5], [0, 9]]), torch.tensor([[0, 3, 5], [1, 9, 2]])
    bias = alibi_bias(torch.tensor([0.5, 0.125, 2.0]), queries, keys)
    for b in range(2):
        for h, slope in enumerate((0.5, 0.125, 2.0)):
            for t in range(2):
                for s in range(3):
                    assert bias[b, h, t, s] == -slope * abs(int(queries[b, t]) - int(keys[b, s]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("position", POSITIONS)
def test_word_order_matters_exactly_when_there_is_a_position_scheme(position):
    model = randomise(BERT(config(position=position)))
    tokens = ids(23, 2, 9)
    order = torch.tensor([4, 0, 8, 2, 1, 3, 7, 6, 5])
    with torch.no_grad():
        moved, shuffled = model.hidden(tokens)[:, order], model.hidden(tokens[:, order])
    difference = float((moved - shuffled).abs().max())
    assert difference < 1e-12 if position == "none" else difference > 1e-3


def test_odd_widths_are_refused_with_the_width():
    with pytest.raises(ValueError, match="d_model must be even.*got 7"):
        sinusoidal(5, 7)
    with pytest.raises(ValueError, match="d_head must be even.*got 5"):
        Rotary(9, 5)
