"""What does each choice inside a block cost? Feed-forward layers of equal size, and where the normalisation stands.

    OMP_NUM_THREADS=1 python -m benchmarks.block_ablation   # about five minutes on one core; writes the committed table

Two questions. *Feed-forward*: the course's GPT, smaller, with another feed-forward layer in each block; all have
equally many parameters, and each may choose among two learning rates by its loss on the validation works with seed 0.
*Norm*: a GPT of classic parts with normalisation before or after each sublayer, with and without warm-up, trained by
AdamW. What the chapter `mathematics/mlp_and_residual_stream` reports is the loss on the test works. The table is
`fmcourse/results/block_ablation.json`.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.sweep import Sweep, load, losses, write_table
from fmcourse.recipes import Recipe, gpt
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import GPT, count_parameters

SEEDS = (0, 1, 2)
RATES = (0.01, 0.02)
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


def run(recipe: Recipe, seed: int, inner: str = "", outer: str = "none", xavier: bool = False) -> dict[str, float]:
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
    return losses(model, data, 384)


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    sweep = Sweep("block_ablation")

    def measured(recipe: Recipe, seed: int, **change: Any) -> dict[str, float]:
        return sweep(f"{recipe}, {seed}, {change}", lambda: run(recipe, seed, **change))

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
    write_table("block_ablation", {**about, "feed_forward": feed_forward, "norm": norm})


if __name__ == "__main__":
    main()
