"""The sampling explorer shows what `fmcourse.generation.next_token_probabilities` computes."""

import pytest
import torch

from fmcourse.generation import next_token_probabilities

PAGE = "practice/train_gpt"
CUTS = [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 5, 1.0), (1.3, 0, 0.8), (0.7, 8, 0.5), (0.0, 0, 1.0)]
TEMPERATURES = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 1.75, 2, 2.5, 3, 4, 5]
KS = [1, 2, 3, 5, 8, 13, 21, 34, 0]


@pytest.mark.parametrize("prompt", [0, 1])
def test_numbers_equal_pythons_for_every_cut(figure, prompt):
    explorer = figure(PAGE, "sampling_explorer")
    explorer.set("prompt", prompt)
    logits = torch.tensor(explorer.state["logits"][prompt], dtype=torch.float64)
    own = logits.softmax(dim=-1)
    for temperature, top_k, top_p in CUTS:
        explorer.set("temperature", TEMPERATURES.index(temperature))
        explorer.set("top_k", KS.index(top_k))
        explorer.set("top_p", top_p)
        expected = next_token_probabilities(logits, temperature=temperature, top_k=top_k or None, top_p=top_p)
        shown = explorer.numbers()
        likeliest = expected.sort(descending=True).values[:12].tolist()
        assert [shown[f"probability[{i}]"] for i in range(12)] == pytest.approx(likeliest, abs=1e-6)
        kept = expected[expected > 0]
        assert shown["kept"] == len(kept)
        assert shown["entropy"] == pytest.approx(-(kept * kept.log2()).sum().item(), abs=1e-5)
        assert shown["dropped"] == pytest.approx(own[expected == 0].sum().item(), abs=1e-6)


def test_keyboard_moves_the_temperature_and_draws(figure):
    explorer = figure(PAGE, "sampling_explorer")
    before = explorer.numbers()["entropy"]
    explorer.press("temperature", "ArrowRight", times=3)
    assert explorer.numbers()["entropy"] > before
    button = explorer.root.locator("button")
    button.focus()
    explorer.page.keyboard.press("Enter")
    drawn = explorer.root.locator("p[aria-live]").filter(has_text=explorer.state["labels"]["drawn"]).inner_text()
    letters = drawn.split(": ", 1)[1].split(" ")
    assert len(letters) == 30
    assert set(letters) <= set(explorer.state["tokens"])
