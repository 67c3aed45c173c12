"""Each interactive figure of a chapter: it reacts, its numbers equal Python's, and it works by keyboard alone."""

import math

import numpy as np
import pytest
import torch

from fmcourse.attention import scaled_dot_product_attention
from fmcourse.generation import next_token_probabilities

# --- mathematics/attention: weights from stored scores, under a temperature and a mask --------------------------------

ATTENTION = ("mathematics/attention", "attention_explorer")


def attention_weights(state, sentence, head, mask, temperature):
    """The same weights from the package's own attention: queries that reproduce the scores, keys that are the axes."""
    scores = torch.tensor(state["scores"][head][sentence], dtype=torch.float64)
    n = len(scores)
    may_attend = torch.ones(n, n, dtype=torch.bool)
    if mask == "causal":
        may_attend = may_attend.tril()
    if mask == "special":
        may_attend = may_attend & torch.tensor([token not in state["special"] for token in state["texts"][sentence]])
    identity = torch.eye(n, dtype=torch.float64)
    _, weights = scaled_dot_product_attention(scores * n**0.5 / temperature, identity, identity, may_attend)
    return weights


def assert_shows_attention(figure, *, sentence, head, mask, temperature, query):
    weights = attention_weights(figure.state, sentence, head, mask, temperature)
    numbers = figure.numbers()
    shown = torch.tensor([[numbers[f"weight[{i},{j}]"] for j in range(len(weights))] for i in range(len(weights))])
    torch.testing.assert_close(shown.double(), weights, rtol=0, atol=1e-6)
    row = weights[query]
    entropy = -torch.special.xlogy(row, row).sum().item()
    assert numbers["entropy"] == pytest.approx(entropy, abs=1e-9)
    assert numbers["top_weight"] == pytest.approx(row.max().item(), abs=1e-9)
    assert numbers["spread"] == pytest.approx(math.exp(entropy), abs=1e-8)
    assert figure.text("entropy") == f"{entropy:.2f}"


def test_attention_explorer_shows_pythons_weights(figure):
    explorer = figure(*ATTENTION)
    state = explorer.state
    start = {name: state[name] for name in ("sentence", "head", "mask", "temperature", "query")}
    assert_shows_attention(explorer, **start)
    for mask in ("causal", "special", "none"):
        explorer.set("mask", state["labels"][mask])
        assert_shows_attention(explorer, **{**start, "mask": mask})
    for head in range(len(state["heads"])):
        explorer.set("head", head)
        assert_shows_attention(explorer, **{**start, "head": head})
    last = len(state["texts"]) - 1
    explorer.set("sentence", last)
    changed = {**start, "sentence": last, "head": head}
    assert_shows_attention(explorer, **changed)


def test_attention_explorer_follows_the_temperature(figure):
    explorer = figure(*ATTENTION)
    state = explorer.state
    start = {name: state[name] for name in ("sentence", "head", "mask", "query")}
    seen = []
    for key, times in (("Home", 1), ("End", 1), ("ArrowLeft", 5)):
        explorer.press("temperature", key, times)
        temperature = float(explorer.shown("temperature"))
        assert_shows_attention(explorer, **start, temperature=temperature)
        seen.append((temperature, explorer.numbers()["entropy"]))
    assert len({t for t, _ in seen}) == 3
    assert [e for _, e in sorted(seen)] == sorted(e for _, e in seen), "hotter is more even"


def test_attention_explorer_chooses_a_row_by_keyboard(figure):
    explorer = figure(*ATTENTION)
    state = explorer.state
    start = {name: state[name] for name in ("sentence", "head", "mask", "temperature")}
    rows = explorer.root.locator("button.fm-row")
    rows.nth(2).focus()
    explorer.page.keyboard.press("Enter")
    assert rows.nth(2).get_attribute("aria-pressed") == "true"
    assert explorer.page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true", "focus stays"
    assert_shows_attention(explorer, **start, query=2)


# --- practice/train_gpt: the distribution of the next token -----------------------------------------------------------

SAMPLING = ("practice/train_gpt", "sampling_explorer")


def assert_shows_sampling(figure, *, prompt, temperature, top_k, top_p):
    logits = torch.tensor(figure.state["logits"][prompt], dtype=torch.float64)
    top_p = None if top_p == 1 else top_p  # all of the probability is every token, however small
    wanted = next_token_probabilities(logits, temperature=temperature, top_k=top_k or None, top_p=top_p)
    order = logits.argsort(descending=True, stable=True)
    numbers = figure.numbers()
    bars = [numbers[f"probability[{rank}]"] for rank in range(min(12, len(logits)))]
    assert bars == pytest.approx(wanted[order][: len(bars)].tolist(), abs=1e-6)
    kept = wanted[wanted > 0]
    assert numbers["kept"] == len(kept)
    assert numbers["entropy"] == pytest.approx(-(kept * kept.log2()).sum().item(), abs=1e-6)
    dropped = logits.softmax(-1)[wanted == 0].sum().item()
    assert numbers["dropped"] == pytest.approx(dropped, abs=1e-6)


def test_sampling_explorer_shows_pythons_distribution(figure):
    explorer = figure(*SAMPLING)
    now = {name: explorer.state[name] for name in ("prompt", "temperature", "top_k", "top_p")}
    assert_shows_sampling(explorer, **now)
    for position in (0, 3, 19):
        explorer.set("temperature", position)
        now["temperature"] = float(explorer.shown("temperature"))
        assert_shows_sampling(explorer, **now)
    explorer.set("top_k", 2)
    now["top_k"] = int(explorer.shown("top_k"))
    assert_shows_sampling(explorer, **now)
    explorer.set("top_p", 0.5)
    now["top_p"] = 0.5
    assert_shows_sampling(explorer, **now)
    for prompt in range(len(explorer.state["prompts"])):
        explorer.set("prompt", prompt)
        now["prompt"] = prompt
        assert_shows_sampling(explorer, **now)


def test_sampling_explorer_draws_by_keyboard_what_it_shows(figure):
    explorer = figure(*SAMPLING)
    explorer.press("top_k", "Home")
    assert explorer.shown("top_k") == "1"
    explorer.root.get_by_role("button", name=explorer.state["labels"]["draw"]).focus()
    explorer.page.keyboard.press("Enter")
    drawn = explorer.root.locator("p", has_text=explorer.state["labels"]["drawn"]).inner_text().split(": ", 1)[1]
    best = int(np.argmax(explorer.state["logits"][explorer.state["prompt"]]))
    assert drawn == " ".join([explorer.state["tokens"][best]] * 30)


# --- concepts/what_is_a_foundation_model: parameters of published models over time ------------------------------------

TIMELINE = ("concepts/what_is_a_foundation_model", "parameter_timeline")


def chosen_models(state, *, modality="all", architecture="all", period=0, dense=False, records=False):
    first, last = state["periods"][period - 1] if period else (-math.inf, math.inf)
    found, largest = [], 0
    for model in state["models"]:
        fits = modality in ("all", model["modality"]) and architecture in ("all", model["architecture"])
        if not fits or (dense and model["sparse"]) or not first <= math.floor(model["year"]) <= last:
            continue
        is_record = model["parameters"] is not None and model["parameters"] > largest
        largest = model["parameters"] if is_record else largest
        if is_record or not records:
            found.append(model)
    return [model for model in found if model["parameters"] is not None]


def assert_shows_timeline(figure, **choice):
    models = chosen_models(figure.state, **choice)
    numbers = figure.numbers()
    assert numbers["shown"] == len(models)
    years = [model["year"] for model in models]
    if len(models) >= 3 and np.var(years) >= 0.1:
        slope = np.polyfit(years, np.log10([model["parameters"] for model in models]), 1)[0]
        assert numbers["growth"] == pytest.approx(10**slope, rel=1e-6)
    else:
        assert "growth" not in numbers


def test_parameter_timeline_shows_pythons_growth(figure):
    timeline = figure(*TIMELINE)
    state = timeline.state
    now = {name: state[name] for name in ("modality", "architecture", "period", "dense", "records")}
    assert_shows_timeline(timeline, **now)
    for trait, value in (("dense", True), ("records", True), ("records", False), ("dense", False)):
        timeline.set(trait, value)
        now[trait] = value
        assert_shows_timeline(timeline, **now)
    for period in range(len(state["periods"]) + 1):
        timeline.set("period", period)
        assert_shows_timeline(timeline, **{**now, "period": period})
    timeline.set("period", 0)
    now["period"] = 0
    for modality in ("image", "text"):
        timeline.set("modality", state["labels"][modality])
        now["modality"] = modality
        assert_shows_timeline(timeline, **now)


def test_parameter_timeline_tells_each_models_size(figure):
    timeline = figure(*TIMELINE)
    models = timeline.state["models"]
    for place in (0, len(models) // 2, len(models) - 1):
        timeline.set("selected", place)
        numbers = timeline.numbers()
        assert numbers.get("parameters") == models[place]["parameters"]
        assert numbers.get("active") == models[place]["active"]


def test_parameter_timeline_is_operated_by_keyboard(figure):
    timeline = figure(*TIMELINE)
    before = timeline.numbers()["shown"]
    timeline.press("records", "Space")
    assert timeline.numbers()["shown"] < before
    timeline.press("selected", "End")
    assert timeline.root.locator("p strong").inner_text() == timeline.state["models"][-1]["name"]


# --- mathematics/positions: tested in test_rotary_explorer.py ---------------------------------------------------------

ROTARY = ("mathematics/positions", "rotary_explorer")


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chapter", "module"), [ATTENTION, SAMPLING, TIMELINE, ROTARY])
def test_every_control_has_a_name_and_is_big_enough_to_touch(chapter, module, figure):
    shown = figure(chapter, module, width=360)
    controls = shown.root.locator("[data-trait], button").all()
    assert controls
    for control in controls:
        box = control.bounding_box()
        assert box is None or min(box["width"], box["height"]) >= 20, control.evaluate("(e) => e.outerHTML")
    assert shown.root.get_by_role("group", name=shown.state["label"]).count() == 1
    assert shown.root.locator("[data-trait]").evaluate_all("(es) => es.filter((e) => !e.labels.length).length") == 0


@pytest.mark.parametrize(("chapter", "module"), [ATTENTION, SAMPLING, TIMELINE, ROTARY])
def test_a_focused_control_keeps_its_keys_from_jupyterlab(chapter, module, figure):
    """JupyterLab's own shortcuts take the arrow keys, unless the element that has the focus carries this attribute."""
    controls = figure(chapter, module).root.locator("[data-trait]").all()
    assert controls
    for control in controls:
        control.focus()
        assert control.get_attribute("data-lm-suppress-shortcuts") is not None
