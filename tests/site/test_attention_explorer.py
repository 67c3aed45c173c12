"""The attention explorer shows what `fmcourse.attention.scaled_dot_product_attention` computes from the same scores."""

import math
import re

import pytest
import torch

from fmcourse.attention import scaled_dot_product_attention
from fmcourse.widgets.attention_explorer import AttentionExplorer

PAGE = "mathematics/attention"
TEMPERATURES = [float(f"{0.1 * 10 ** (k / 20):.2g}") for k in range(51)]
MASKS = ["none", "causal", "special"]
SETTINGS = [(0, "none", 1.0), (1, "causal", 0.32), (2, "special", 3.2), (3, "none", 0.1), (4, "causal", 32.0)]


def expected_weights(state, sentence, head, mask, temperature):
    """Weights by the package, from queries and keys whose scaled product is scores / temperature; and the mask."""
    scores = torch.tensor(state["scores"][head][sentence], dtype=torch.float64) / temperature
    n = len(scores)
    may_attend = torch.ones(n, n, dtype=torch.bool)
    if mask == "causal":
        may_attend = may_attend.tril()
    if mask == "special":
        may_attend[:, [token in state["special"] for token in state["texts"][sentence]]] = False
    identity = torch.eye(n, dtype=torch.float64)
    return scaled_dot_product_attention(scores * n**0.5, identity, identity, may_attend)[1], may_attend


@pytest.mark.parametrize("sentence", [0, 1])
def test_numbers_equal_pythons_for_every_head_mask_and_temperature(figure, sentence):
    explorer = figure(PAGE, "attention_explorer")
    explorer.set("sentence", sentence)
    for head, mask, temperature in SETTINGS:
        explorer.set("head", head)
        explorer.set("mask", MASKS.index(mask))
        explorer.set("temperature", TEMPERATURES.index(temperature))
        weights, may_attend = expected_weights(explorer.state, sentence, head, mask, temperature)
        shown = explorer.numbers()
        n = len(weights)
        grid = torch.tensor([[shown[f"weight[{i},{j}]"] for j in range(n)] for i in range(n)], dtype=torch.float64)
        assert (grid - weights).abs().max() < 1e-6
        row = weights[explorer.state["query"]]
        entropy = -torch.special.xlogy(row, row).sum().item()
        assert shown["entropy"] == pytest.approx(entropy, abs=1e-6)
        assert shown["spread"] == pytest.approx(math.exp(entropy), abs=1e-5)
        assert shown["top_weight"] == pytest.approx(row.max().item(), abs=1e-6)
        n_allowed = int(may_attend[explorer.state["query"]].sum())
        assert shown["max_entropy"] == pytest.approx(math.log(n_allowed), abs=1e-6)


def test_the_sentence_decides_what_it_means(figure):
    explorer = figure(PAGE, "attention_explorer")
    tokens, it = explorer.state["texts"][0], explorer.state["query"]
    cat, milk = f"weight[{it},{tokens.index('cat')}]", f"weight[{it},{tokens.index('milk')}]"
    thirsty = explorer.numbers()
    explorer.set("sentence", 1)
    sweet = explorer.numbers()
    assert thirsty[cat] > thirsty[milk]
    assert sweet[milk] > sweet[cat]


def test_keyboard_chooses_a_row_and_keeps_its_focus(figure):
    explorer = figure(PAGE, "attention_explorer")
    rows = explorer.root.locator("button.fm-row")
    rows.nth(3).focus()
    explorer.page.keyboard.press("Enter")
    assert [rows.nth(i).get_attribute("aria-pressed") for i in range(rows.count())].index("true") == 3
    assert explorer.page.evaluate("document.activeElement.textContent") == explorer.state["texts"][0][3]
    before = explorer.numbers()["entropy"]
    explorer.press("temperature", "ArrowRight", times=3)
    assert explorer.numbers()["entropy"] > before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": ["a", "b"]}, "one entry of scores per head; got 1 texts, 2 heads and 1 entries"),
        ({"texts": [["x", "y"], ["z", "w"]]}, "head 'a' has scores for 1 of 2 texts"),
        ({"texts": [["x", "y", "z"]]}, "head 'a': scores are 2 x 2 for a text of 3 tokens"),
        ({"query": 2}, "query=2 is out of range; 0 to 1 are allowed"),
        ({"head": 1}, "head=1 is out of range; 0 to 0 are allowed"),
        ({"special": ["x", "y"]}, "special covers every token"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    state = {"texts": [["x", "y"]], "heads": ["a"], "scores": [[[[0.0, 1.0], [1.0, 0.0]]]]}
    AttentionExplorer(**state)
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionExplorer(**{**state, **change})
