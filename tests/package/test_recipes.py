"""The recipes are what they claim: nanoGPT's numbers for the baseline, and a model of the same size beside it."""

import io
import math

import pytest
import torch

from fmcourse.data import text as text_module
from fmcourse.optim import schedule_factor
from fmcourse.recipes import gpt, nanogpt_cpu
from fmcourse.transformer import GPT, count_parameters

PRESETS = ("cpu", "t4", "gpu")


def parameters(model_config):
    """Counted without allocating them."""
    with torch.device("meta"):
        return count_parameters(GPT(model_config))


def test_the_baseline_has_the_numbers_of_nanogpts_readme():
    recipe = nanogpt_cpu()
    model, train = recipe.model, recipe.train
    assert (model.n_layers, model.n_heads, model.d_model, model.context) == (4, 4, 128, 64)
    assert (model.dropout, model.bias, model.position, model.tie_embeddings) == (0.0, False, "learned", True)
    assert (train.steps, train.batch_size, train.lr, train.warmup) == (2000, 12, 1e-3, 100)
    assert (train.betas, train.weight_decay, train.clip) == ((0.9, 0.99), 0.1, 1.0)
    assert train.floor * train.lr == pytest.approx(1e-4)


def test_the_baselines_learning_rate_is_nanogpts():
    """Its `get_lr`: linear warm-up over 100 steps, then a cosine from 1e-3 to 1e-4 that ends with the run."""
    train = nanogpt_cpu().train
    for step in (0, 1, 50, 99, 100, 101, 700, 1999):
        if step < 100:
            wanted = 1e-3 * (step + 1) / 101
        else:
            ratio = (step - 100) / (2000 - 100)
            wanted = 1e-4 + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (1e-3 - 1e-4)
        factor = schedule_factor(
            step, train.steps, schedule=train.schedule, warmup=train.warmup, cooldown=train.cooldown, floor=train.floor
        )
        assert factor * train.lr == pytest.approx(wanted)


def test_ours_has_the_baselines_size_context_and_text():
    ours, _, tokenizer = gpt("cpu").load()
    baseline, _, _ = nanogpt_cpu().load()
    assert ours.context == baseline.context == 64
    assert ours.vocab_size == baseline.vocab_size == tokenizer.vocab_size
    assert parameters(ours) == pytest.approx(parameters(baseline), rel=0.05)
    assert parameters(baseline) == pytest.approx(0.8e6, rel=0.02)


def test_loaded_data_fit_the_model_and_lose_no_character():
    model, data, tokenizer = gpt("cpu").load(seed=7)
    batch = data.batch(0, 3)
    assert batch.targets.shape == (3, model.context)
    assert int(data.train_ids.max()) < model.vocab_size
    assert data.seed == 7
    text = text_module.shakespeare().validation[:2000]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(data.validation_ids[:2000].tolist()) == text


@pytest.mark.parametrize("preset", ["t4", "gpu"])
def test_the_large_recipe_has_ten_million_parameters_and_reads_the_published_text(preset, monkeypatch):
    text = "".join(chr(33 + i % 65) for i in range(4000))  # as many characters as tiny Shakespeare has
    monkeypatch.setattr(text_module, "urlopen", lambda url, timeout: io.BytesIO(text.encode()))
    model, data, _ = gpt(preset).load()
    assert model.vocab_size == 65
    assert parameters(model) == pytest.approx(10.7e6, rel=0.02)
    assert len(data.train_ids) == 3600
    assert (model.context, model.dropout) == (256, 0.2)


def test_presets_use_what_their_hardware_has():
    assert [gpt(preset).train.precision for preset in PRESETS] == ["auto", "fp16", "bf16"]
    assert [gpt(preset).train.compile for preset in PRESETS] == [False, False, True]
    assert [gpt(preset).source for preset in PRESETS] == ["embedded", "hub", "hub"]
    assert all(gpt(preset).expect for preset in PRESETS)


def test_an_unknown_preset_names_the_choices():
    with pytest.raises(ValueError, match="preset='laptop' is not known; choose one of 'cpu', 't4', 'gpu'"):
        gpt("laptop")
