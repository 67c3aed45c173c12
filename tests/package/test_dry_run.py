"""What a dry run says is what a real step does, and every preset of the book fits the hardware it is for."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from fmcourse.data.batch import Batch
from fmcourse.dry_run import FusedAttention, dry_run
from fmcourse.recipes import MODELS, RECIPES, Recipe, recipe_for
from fmcourse.training import summed_loss

GIB = 2**30
EVERY = sorted({(name, preset) for name in RECIPES for preset in ("cpu", "t4", "gpu")})


def shrunken(recipe):
    """The same choices at a size that a test can afford."""
    model = replace(recipe.model, vocab_size=53, context=24, d_model=32, n_layers=2, n_heads=2, d_ff=None)
    train = replace(recipe.train, batch_size=6, accumulate=2, precision="fp32", compile=False)
    model = replace(model, dropout=0.0)  # with it, the CPU has no fused attention to compare with
    return replace(recipe, model=model, train=train)


def real(batch, vocab_size):
    """Numbers in place of the shapes."""

    def fill(tensor):
        if tensor.dtype == torch.bool:
            return torch.ones(tensor.shape, dtype=torch.bool)
        return torch.randint(vocab_size, tensor.shape, generator=torch.Generator().manual_seed(0))

    return Batch({name: fill(value) for name, value in batch.inputs.items()}, fill(batch.targets))


def storages(tensors):
    """Bytes of the different memories that the tensors stand in."""
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_real_step_of_a_shrunken_copy_needs_what_the_dry_run_says(name, preset):
    recipe = shrunken(recipe_for(name, preset))
    needs = dry_run(recipe)
    torch.manual_seed(0)
    model, train, kept = recipe.build(), recipe.train, []
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    before = [p.detach().clone() for p in model.parameters()]
    batch = real(recipe.example(3), recipe.model.vocab_size)
    with saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        loss = summed_loss(model, batch, train.label_smoothing) / batch.targets.numel()
    loss.backward()
    optimizers = train.optimizers(model)
    for optimizer in optimizers:
        optimizer.step()
    state = [v for o in optimizers for entry in o.state.values() for v in entry.values() if isinstance(v, torch.Tensor)]
    assert needs.parameters == sum(p.numel() for p in model.parameters())
    assert needs.weights == needs.gradients == 4 * needs.parameters
    assert needs.optimizer == pytest.approx(storages(state), rel=1e-3)  # where AdamW counts its steps may differ
    assert needs.activations == storages(t for t in kept if t.untyped_storage()._cdata not in own)
    assert needs.logits[0] == needs.micro_batch == 3
    assert torch.isfinite(loss)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_every_preset_fits_its_hardware(name, preset):
    """A T4 has 15 GiB, an A100 at least 40; two recipes are made for four of those."""
    recipe, large = recipe_for(name, preset), name in {"gpt2-124m", "translation-wmt14"}
    memory = dry_run(recipe, n_processes=4 if large else 1).memory
    assert memory < {"cpu": 4, "t4": 14, "gpu": 38}["gpu" if large else preset] * GIB
    if preset == "t4" and not large:
        assert recipe.train.precision == "fp16"


def test_the_sizes_are_the_published_ones():
    assert dry_run(recipe_for("gpt2-124m", "gpu"), n_processes=4).parameters == 124_439_808  # as Hugging Face counts
    assert dry_run(recipe_for("gpt", "t4")).parameters == pytest.approx(10.7e6, rel=0.01)  # nanoGPT's README
    # Wu et al. 2021, Transformer-Tiny; Vaswani et al. 2017, table 3
    assert dry_run(recipe_for("translation", "t4")).parameters == pytest.approx(2.6e6, rel=0.02)
    wmt14 = dry_run(recipe_for("translation-wmt14", "gpu"), n_processes=4)
    assert wmt14.parameters == pytest.approx(65e6, rel=0.05)


def test_the_arithmetic_is_six_operations_a_parameter_and_token_and_the_scores():
    """Kaplan et al. 2020, section 2.1, and Chowdhery et al. 2022, appendix B: 6 N D + 12 layers x width x context."""
    recipe = recipe_for("gpt2-124m", "gpu")
    model, needs = recipe.model, dry_run(recipe, n_processes=4)
    each = 6 * (needs.parameters - model.context * model.d_model) + 12 * model.n_layers * model.d_model * model.context
    assert needs.flops / needs.tokens == pytest.approx(each, rel=0.1)


class Checkpointed(Recipe):
    """The same recipe; every block keeps its input only and is run again in the backward pass."""

    def build(self, config=None):
        model = super().build(config)
        again = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), FusedAttention())}
        for block in model.decoder.blocks:
            block.forward = partial(checkpoint, block.forward, preserve_rng_state=False, **again)
        return model


def test_what_is_computed_again_costs_arithmetic_and_saves_memory():
    recipe = shrunken(recipe_for("gpt2-124m", "gpu"))
    plain, again = dry_run(recipe), dry_run(Checkpointed(**vars(recipe)))
    model = recipe.model
    inside = model.n_layers * (24 * model.d_model**2 + 4 * model.context * model.d_model)  # forward, for a token
    tokens = plain.tokens
    assert again.flops - plain.flops <= inside * tokens  # the last product of a block need not be done again
    assert again.flops - plain.flops > 0.6 * inside * tokens
    assert again.activations < 0.6 * plain.activations
    assert again.parameters == plain.parameters


def test_processes_share_a_batch():
    recipe = recipe_for("gpt2-124m", "gpu")
    one, four = dry_run(recipe), dry_run(recipe, n_processes=4)
    assert (one.micro_batch, four.micro_batch) == (64, 16)
    assert one.flops == four.flops
    assert one.tokens == four.tokens == 524_288
    with pytest.raises(ValueError, match="batch_size=512 must be divisible by accumulate=8 times n_processes=5"):
        dry_run(recipe, n_processes=5)


def test_every_task_has_a_model():
    assert {recipe_for(name, "cpu").task for name in RECIPES} == set(MODELS)
