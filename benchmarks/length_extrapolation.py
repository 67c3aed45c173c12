"""How do the position schemes do on texts longer than those they were trained on? Train short, look far, several seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.length_extrapolation    # about ten minutes on one core; writes the table

GPTs that differ in nothing but `position` are trained on windows of 64 characters and then read windows of 512 of the
test works. The table holds the loss at each position, averaged over 16 neighbouring positions and all windows; it is
`fmcourse/results/length_extrapolation.json`, and the chapter `mathematics/positions` shows it.
"""

from dataclasses import replace
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.sweep import Sweep, write_table
from fmcourse.config import Position
from fmcourse.data.text import LanguageModelData
from fmcourse.positions import SinusoidalPositions
from fmcourse.recipes import gpt
from fmcourse.training import fit
from fmcourse.transformer import GPT

SCHEMES: dict[str, Position] = {
    "rotary": "rotary",
    "alibi": "alibi",
    "sinusoidal": "sinusoidal",
    "sinusoidal, as small as the tokens": "sinusoidal",
    "learned": "learned",
    "none": "none",
}
SEEDS = (0, 1, 2)
STEPS, TUNING_STEPS = 300, 30
LONG, WINDOWS, BIN = 512, 256, 16


def longer(model: GPT, *, stretch: float = 1.0, base: float | None = None) -> GPT:
    """The same weights in a model that accepts LONG tokens; rows that a learned table lacks are zero.

    Rotary positions may be divided by `stretch`, or turn with another `base`.
    """
    config = replace(model.config, context=LONG, rope_base=base or model.config.rope_base)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if config.position == "learned":
        table = weights["decoder.positions.weight"]
        weights["decoder.positions.weight"] = torch.cat([table, table.new_zeros(LONG - len(table), config.d_model)])
    bigger = GPT(config)
    bigger.load_state_dict(weights)
    if stretch != 1:
        frequency = config.rope_base ** (-torch.arange(0, config.d_head, 2, dtype=torch.float64) / config.d_head)
        angle = torch.arange(LONG)[:, None] / stretch * frequency
        assert bigger.decoder.rotary is not None
        bigger.decoder.rotary.cos = torch.cat([angle.cos(), angle.cos()], dim=-1).float()
        bigger.decoder.rotary.sin = torch.cat([-angle.sin(), angle.sin()], dim=-1).float()
    return bigger.eval()


def make_small(model: GPT) -> None:
    """Give the sinusoidal table the size that token vectors start with, instead of 35 times that."""
    assert isinstance(model.decoder.positions, SinusoidalPositions)
    model.decoder.positions.table *= 0.02 * 2**0.5


def logits_in_a_window(model: GPT, tokens: Tensor, window: int) -> Tensor:
    """As `model(tokens)`, but a query sees itself and the `window - 1` tokens before it."""
    stack, places = model.decoder, torch.arange(tokens.shape[1])
    distance = places[:, None] - places
    may_attend = ((distance >= 0) & (distance < window))[None, None]
    assert stack.rotary is not None
    assert stack.norm is not None
    x = stack.embed(tokens, places)
    for block in stack.blocks:
        x = block(x, rotate=stack.rotary(places), may_attend=may_attend)
    logits: Tensor = model.head(stack.norm(x))
    return logits


@torch.no_grad()
def loss_by_position(model: GPT, data: LanguageModelData, window: int | None = None) -> list[float]:
    """Mean loss in nats at the positions of long test windows, BIN neighbours together."""
    losses = []
    for batch in data.test(16, WINDOWS):
        tokens = batch.inputs["tokens"]
        logits = model(tokens) if window is None else logits_in_a_window(model, tokens, window)
        losses.append(F.cross_entropy(logits.mT, batch.targets, reduction="none"))
    means = reduce(torch.cat(losses).double(), "b (bins near) -> bins", "mean", near=BIN)
    return [round(value, 4) for value in means.tolist()]


def curves(scheme: str, seed: int) -> dict[str, list[float]]:
    """Train one GPT; its loss by position as it is, and with each repair that its scheme allows."""
    recipe, small = gpt("cpu"), scheme.endswith("tokens")
    torch.manual_seed(seed)
    config, data, tokenizer = recipe.load(seed)
    model = GPT(replace(config, position=SCHEMES[scheme]))
    if small:
        make_small(model)
    fit(model, data, replace(recipe.train, steps=STEPS, eval_every=STEPS, seed=seed), device="cpu", progress=False)
    far = LanguageModelData(
        data.train_ids, data.validation_ids, test=data.test_ids, tokenizer=tokenizer, context=LONG, seed=seed
    )
    plain = longer(model)
    if small:
        make_small(plain)
    found = {scheme: loss_by_position(plain, far)}
    if scheme != "rotary":
        return found
    stretch, d = LONG / config.context, config.d_head
    wider = longer(model, base=config.rope_base * stretch ** (d / (d - 2)))
    found["rotary, window"] = loss_by_position(plain, far, window=config.context)
    found["rotary, larger base"] = loss_by_position(wider, far)
    found["rotary, interpolated"] = loss_by_position(longer(model, stretch=stretch), far)
    tuning = replace(
        recipe.train,
        steps=TUNING_STEPS,
        batch_size=recipe.train.batch_size * config.context // LONG,  # as many tokens a step as before
        lr=recipe.train.lr / 3,
        matrix_lr=recipe.train.matrix_lr / 3,
        eval_every=TUNING_STEPS,
        eval_examples=8,
        seed=seed,
    )
    for name, factor in (("rotary, tuned", 1.0), ("rotary, interpolated and tuned", stretch)):
        tuned = longer(model, stretch=factor)
        fit(tuned, far, tuning, device="cpu", progress=False)
        found[name] = loss_by_position(tuned.eval(), far)
    return found


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    sweep = Sweep("length_extrapolation")
    rows: dict[str, list[list[float]]] = {}
    for seed, scheme in tqdm(list(product(SEEDS, SCHEMES)), unit="run"):
        key = f"{scheme}, seed {seed}, {STEPS} + {TUNING_STEPS} steps, {gpt('cpu')}"
        for name, curve in sweep(key, partial(curves, scheme, seed)).items():
            rows.setdefault(name, []).append(curve)
    about = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.length_extrapolation",
        "seeds": list(SEEDS),
        "steps": STEPS,
        "tuning_steps": TUNING_STEPS,
        "trained_length": gpt("cpu").model.context,
        "length": LONG,
        "windows": WINDOWS,
        "bin": BIN,
        "environment": environment(),
    }
    table = [{"name": name, "loss": losses} for name, losses in rows.items()]
    write_table("length_extrapolation", {**about, "rows": table})


if __name__ == "__main__":
    main()
