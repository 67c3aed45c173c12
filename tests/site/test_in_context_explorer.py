"""The in-context explorer computes in the page what the trained learner computes in Python."""

import numpy as np
import pytest
import torch
from torch import nn

from fmcourse.config import TransformerConfig
from fmcourse.transformer import Stack
from fmcourse.widgets.in_context_explorer import InContextExplorer, run, weights_of

PAGE = "practice/in_context_learning"


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


class Learner(nn.Module):
    """Attention only, with large random weights."""

    def __init__(self):
        super().__init__()
        config = TransformerConfig(vocab_size=9, context=7, d_model=12, n_layers=2, n_heads=3, norm="rms", bias=False)
        self.decoder, self.answer = Stack(config, causal=True), nn.Linear(12, 5, bias=False)
        for block in self.decoder.blocks:
            block.feed_forward, block.feed_forward_norm = Zero(), nn.Identity()
        for p in self.parameters():
            nn.init.normal_(p, generator=torch.Generator().manual_seed(p.numel()))


@torch.no_grad()
def test_python_agrees_with_torch():
    model, tokens = Learner().double(), [3, 1, 8, 3, 0]
    rows = [8, 3, 1, 0]
    weights = weights_of(model, rows, 5)
    wanted = model.answer(model.decoder(torch.tensor([tokens])))[0, -1].softmax(-1)
    found, looks = run(weights, [rows.index(token) for token in tokens])
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=1e-12)
    assert looks.shape == (6, 5)
    assert looks.sum(axis=1) == pytest.approx(1)


@torch.no_grad()
def test_a_head_that_is_off_writes_nothing():
    model = Learner().double()
    weights = weights_of(model, range(9), 5)
    whole = run(weights, [1, 2, 3])[0]
    without = run(weights, [1, 2, 3], off=[4])[0]
    model.decoder.blocks[1].attention.out.weight[:, 4:8] = 0  # head 1 of layer 2
    wanted = model.answer(model.decoder(torch.tensor([[1, 2, 3]])))[0, -1].softmax(-1)
    assert without.tolist() == pytest.approx(wanted.tolist(), abs=1e-12)
    assert np.abs(without - whole).max() > 1e-3


def test_impossible_prompts_are_refused():
    weights = weights_of(Learner(), range(9), 3)
    words = {"words": ["a", "b"], "colours": ["red"], "weights": weights}
    with pytest.raises(ValueError, match="names no word"):
        InContextExplorer(**words, examples=[[2, 0]])
    with pytest.raises(ValueError, match="positions"):
        InContextExplorer(**words, examples=[[0, 0], [1, 0]])


def assert_shows(explorer, **changes):
    """The numbers of the page equal Python's for the state as published, with these changes."""
    state = {**explorer.state, **changes}
    n_words = len(state["words"])
    prompt = [row for word, colour in state["examples"][: state["shots"]] for row in (word, n_words + colour)]
    probabilities, looks = run(state["weights"], [*prompt, state["asked"]], state["off"])
    shown = explorer.numbers()
    assert [shown[f"probability[{i}]"] for i in range(len(probabilities))] == pytest.approx(probabilities, abs=1e-9)
    row = looks[state["watched"]]
    assert [shown[f"weight[{i}]"] for i in range(len(row))] == pytest.approx(row, abs=1e-9)
    return probabilities


def test_numbers_equal_pythons(figure):
    explorer = figure(PAGE, "in_context_explorer")
    assert_shows(explorer)
    explorer.set("shots", 3)
    assert_shows(explorer, shots=3)
    explorer.set("asked", 1)
    explorer.set("watched", 2)
    now = {"shots": 3, "asked": 1, "watched": 2}
    assert_shows(explorer, **now)
    explorer.set("head5", False)
    explorer.set("head0", False)
    assert_shows(explorer, **now, off=[0, 5])
    explorer.set("shots", 0)
    assert_shows(explorer, **{**now, "shots": 0}, off=[0, 5])


def test_the_reader_changes_its_mind_by_keyboard(figure):
    explorer = figure(PAGE, "in_context_explorer")
    examples = [list(example) for example in explorer.state["examples"]]
    first = [i for i, (word, _) in enumerate(examples) if word == 0]
    before = assert_shows(explorer)
    for i in first:
        explorer.root.locator(".fm-icl-prompt button").nth(i).focus()
        explorer.page.keyboard.press("Enter")
        examples[i][1] = (examples[i][1] + 1) % len(explorer.state["colours"])
    after = assert_shows(explorer, examples=examples)
    assert after.argmax() != before.argmax()
    explorer.root.get_by_role("button", name=explorer.state["labels"]["reset"]).click()
    assert_shows(explorer)
    explorer.press("head4", "Space")
    assert_shows(explorer, off=[4])


def test_without_induction_heads_the_examples_are_lost(figure):
    explorer = figure(PAGE, "in_context_explorer")
    colour = explorer.state["examples"][0][1]
    assert assert_shows(explorer)[colour] > 0.4
    for head in range(4, 8):
        explorer.set(f"head{head}", False)
    assert assert_shows(explorer, off=[4, 5, 6, 7])[colour] < 0.2


def test_controls_are_named_and_fit_a_phone(figure):
    explorer = figure(PAGE, "in_context_explorer", width=360)
    for control in explorer.root.locator("[data-trait], button:visible").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20, control.evaluate("(e) => e.outerHTML")
    assert (
        explorer.root.locator("[data-trait]").evaluate_all("(es) => es.filter((e) => e.labels.length !== 1).length")
        == 0
    )
    assert explorer.root.get_by_role("group", name=explorer.state["label"]).count() == 1
    assert explorer.root.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1")
