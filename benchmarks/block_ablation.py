"""What does each choice inside a block cost? Feed-forward layers of equal size, and where the normalisation stands.

    OMP_NUM_THREADS=1 python -m benchmarks.block_ablation   # about five minutes on one core; writes the committed table

Two questions. *Feed-forward*: the course's GPT, smaller, with another feed-forward layer in each block; all have
equally many parameters, and each may choose among two learning rates by its loss on the validation works with seed 0.
*Norm*: a GPT of classic parts with normalisation before or after each sublayer, with and without warm-up, trained by
AdamW. What the chapter `mathematics/mlp_and_residual_stream` reports is the loss on the test works. The table is
`fmcourse/results/block_ablation.json`.
"""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.common import environment
from fmcourse.config import TransformerConfig
from fmcourse.data.text import LanguageModelData
from fmcourse.recipes import Recipe, gpt
from fmcourse.training import TrainConfig, evaluate, fit
from fmcourse.transformer import GPT, count_parameters

SEEDS = (0, 1, 2)
RATES = (0.01, 0.02)
ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "fmcourse" / "results" / "block_ablation.json"
PARTIAL = ROOT / "runs" / "block_ablation.json"
SIZE = {"n_layers": 4, "d_model": 96, "n_heads": 3}
# Name: activation of the layer, hidden width in units of d_model, what is done to its output.
FEED_FORWARD: dict[str, tuple[str, float, str]] = {
    "none (linear)": ("none", 4, "none"),
    "ReLU": ("relu", 4, "none"),
    "GELU": ("gelu", 4, "none"),
    "squared ReLU": ("relu2", 4, "none"),
    "SwiGLU": ("swiglu", 8 / 3, "none"),
    "ReLU inside and outside": ("relu", 4, "relu"),
    "GELU inside and outside": ("gelu", 4, "gelu"),
}


class Around(nn.Module):
    """A feed-forward layer without its inner activation, or with a second one around it."""

    def __init__(self, layer: nn.Module, inner: str, outer: str) -> None:
        super().__init__()
        self.layer, self.inner = layer, inner
        self.outer = {"none": nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU()}[outer]

    def forward(self, x: Tensor) -> Tensor:
        """What the layer says, with the change."""
        return self.outer(self.layer.down(self.layer.up(x)) if self.inner == "none" else self.layer(x))


def feed_forward_recipe(activation: str, widening: float, rate: float) -> Recipe:
    """The course's recipe, smaller and shorter."""
    full = gpt("cpu")
    named = "relu" if activation == "none" else activation
    model = replace(full.model, **SIZE, activation=named, d_ff=round(widening * SIZE["d_model"]))
    train = replace(full.train, steps=120, batch_size=16, matrix_lr=rate, precision="fp32", eval_every=120)
    return replace(full, model=model, train=replace(train, eval_examples=64))


def norm_recipe(norm_first: bool, warmup: int, rate: float) -> Recipe:
    """Six blocks of the classic kind: LayerNorm, GELU, learned positions, AdamW at a constant rate."""
    full = gpt("cpu")
    model = replace(
        full.model, n_layers=6, d_model=64, n_heads=2, norm_first=norm_first, activation="gelu", qk_norm=False
    )
    model = replace(model, position="learned", init="normal", bias=True)
    train = TrainConfig(
        steps=150, batch_size=12, lr=rate, warmup=warmup, schedule="constant", precision="fp32", eval_every=150
    )
    return Recipe(model=model, train=replace(train, eval_examples=64), source=full.source, expect="")


def plain_residual_start(model: GPT) -> None:
    """Let every matrix of the blocks start at Xavier's scale: the start under which post-norm was first trained."""
    for name, p in model.named_parameters():
        if "blocks." in name and p.ndim == 2:
            nn.init.xavier_normal_(p)


@cache
def texts() -> tuple[TransformerConfig, LanguageModelData]:
    """The encoded texts, which do not depend on the model."""
    return gpt("cpu").load()[:2]


def load(recipe: Recipe, seed: int) -> tuple[TransformerConfig, LanguageModelData]:
    """The model's configuration, and windows drawn by this seed."""
    config, known = texts()
    ids = known.train_ids, known.validation_ids
    data = LanguageModelData(*ids, test=known.test_ids, tokenizer=None, context=config.context, seed=seed)
    return replace(recipe.model, vocab_size=config.vocab_size), data


def losses(recipe: Recipe, seed: int, inner: str = "", outer: str = "none", xavier: bool = False) -> dict[str, float]:
    """Train and measure on the works held out; a run that ends in no number counts as knowing nothing."""
    config, data = load(recipe, seed)
    torch.manual_seed(seed)
    model = GPT(config)
    if xavier:
        plain_residual_start(model)
    if inner == "none" or outer != "none":
        for block in model.decoder.blocks:
            block.feed_forward = Around(block.feed_forward, inner, outer)
    try:
        fit(model, data, replace(recipe.train, seed=seed), device="cpu", progress=False)
    except FloatingPointError:
        return dict.fromkeys(("validation", "test"), round(math.log(config.vocab_size), 4))
    held_out = {"validation": data.validation(64, 384), "test": data.test(64, 384)}
    return {name: round(evaluate(model, batches), 4) for name, batches in held_out.items()}


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    done: dict[str, dict[str, float]] = json.loads(PARTIAL.read_text(encoding="utf-8")) if PARTIAL.exists() else {}
    PARTIAL.parent.mkdir(parents=True, exist_ok=True)

    def measured(recipe: Recipe, seed: int, **change: Any) -> dict[str, float]:
        key = f"{recipe}, {seed}, {change}"
        if key not in done:
            done[key] = losses(recipe, seed, **change)
            PARTIAL.write_text(json.dumps(done), encoding="utf-8")
        return done[key]

    def row(recipe: Recipe, **change: Any) -> dict[str, Any]:
        runs = [measured(recipe, seed, **change) for seed in SEEDS]
        parts = {part: [one[part] for one in runs] for part in ("validation", "test")}
        return {"parameters": count_parameters(GPT(load(recipe, 0)[0])), **parts}

    feed_forward = []
    for name, (inner, widening, outer) in tqdm(FEED_FORWARD.items(), unit="layer"):
        tried = {rate: feed_forward_recipe(inner, widening, rate) for rate in RATES}
        change = {"inner": inner, "outer": outer}
        best = min(tried, key=lambda rate: measured(tried[rate], 0, **change)["validation"])
        feed_forward.append({"name": name, "rate": best, **row(tried[best], **change)})
    norm = []
    for norm_first in (True, False):
        for warmup in (0, 60):
            for rate in (1e-3, 3e-3):
                what = {"norm": "before" if norm_first else "after", "warmup": warmup, "rate": rate}
                norm.append({**what, **row(norm_recipe(norm_first, warmup, rate), xavier=True)})
    about = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.block_ablation",
        "seeds": list(SEEDS),
        "rates": list(RATES),
        "environment": environment(),
    }
    tables = {"feed_forward": feed_forward, "norm": norm}
    OUT.write_text(json.dumps({**about, **tables}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {OUT.name}")


if __name__ == "__main__":
    main()
