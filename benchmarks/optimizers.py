"""SGD, Adam, AdamW and Muon tuned alike on one problem: a small GPT, Shakespeare by characters.

    OMP_NUM_THREADS=1 python -m benchmarks.optimizers   # about eight minutes on one core; writes the committed table

Every optimiser gets the same chances: eight learning rates, each twice the one before, and two values of one second
number of its own; warm-up and decay, clipping, batches and starts are alike. The second number is chosen with seed 0,
by the lowest loss on the validation works over every other rate. Then all rates are run with three seeds; and again
without warm-up, and without decay, with one seed, and with three at the best rate and its neighbours. What the
chapter `algorithm/training` reports is the loss on the test works at the rate with the lowest mean validation loss.
The table `fmcourse/results/optimizers.json` also holds the training curves.
"""

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from benchmarks.common import environment, medians
from benchmarks.sweep import Sweep, load, losses, write_table
from fmcourse.config import TransformerConfig
from fmcourse.data.text import LanguageModelData
from fmcourse.optim import Schedule, make_optimizers, schedule_factor, set_learning_rate
from fmcourse.recipes import Recipe, gpt
from fmcourse.transformer import GPT, count_parameters

SEEDS = (0, 1, 2)
STEPS, BATCH, WARMUP, CLIP, WINDOW, HELD_OUT = 120, 16, 12, 1.0, 6, 192
MODEL = TransformerConfig(vocab_size=1, context=64, d_model=64, n_layers=2, n_heads=2, position="rotary")
LOWEST = {"SGD": 0.02, "Adam": 0.0005, "AdamW": 0.0005, "Muon": 0.001}
RATES = {name: [low * 2**k for k in range(8)] for name, low in LOWEST.items()}
SECOND: dict[str, tuple[str, tuple[float, float]]] = {
    "SGD": ("momentum", (0.0, 0.9)),
    "Adam": ("beta2", (0.95, 0.999)),
    "AdamW": ("weight decay", (0.01, 0.1)),
    "Muon": ("rate of the matrices / rate of the rest", (1.0, 4.0)),
}
# What happens to the rate over the run: (warm-up steps, shape after it).
SCHEDULES: dict[str, tuple[int, Schedule]] = {
    "warm-up and decay": (WARMUP, "cosine"),
    "no warm-up": (0, "cosine"),
    "no decay": (WARMUP, "constant"),
}


def optimizers(name: str, model: nn.Module, rate: float, second: float) -> list[torch.optim.Optimizer]:
    """The optimisers of that name, with their peak rates noted as `fmcourse.optim.set_learning_rate` wants them."""
    if name == "AdamW":
        return make_optimizers(model, name="adamw", lr=rate, weight_decay=second)
    if name == "Muon":
        return make_optimizers(model, name="muon", lr=rate, matrix_lr=second * rate, weight_decay=0.0)
    one: torch.optim.Optimizer
    if name == "SGD":
        one = torch.optim.SGD(model.parameters(), lr=rate, momentum=second)
    else:
        one = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, second), fused=True)
    one.param_groups[0]["peak_lr"] = rate
    return [one]


def train(
    model: GPT, data: LanguageModelData, chosen: list[torch.optim.Optimizer], *, warmup: int, schedule: Schedule
) -> list[float]:
    """The loop of the chapter; the loss before each step, until there is none any more."""
    seen: list[float] = []
    for step in range(STEPS):
        set_learning_rate(chosen, schedule_factor(step, STEPS, schedule=schedule, warmup=warmup, floor=0.0))
        batch = data.batch(step, BATCH)
        loss = F.cross_entropy(model(**batch.inputs).flatten(0, 1), batch.targets.flatten())
        if not math.isfinite(loss.item()):
            break
        seen.append(loss.item())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad()
    return seen


def run(name: str, rate: float, second: float, schedule: str, seed: int) -> dict[str, Any]:
    """Train; the curve in means over WINDOW steps, and the losses on the works held out (None: no number any more)."""
    recipe = Recipe(model=MODEL, train=gpt("cpu").train, source="embedded", expect="")
    config, data = load(recipe, seed)
    torch.manual_seed(seed)
    model = GPT(config)
    warmup, shape = SCHEDULES[schedule]
    seen = train(model, data, optimizers(name, model, rate, second), warmup=warmup, schedule=shape)
    windows = [seen[i : i + WINDOW] for i in range(0, len(seen), WINDOW)]
    curve = [round(sum(window) / len(window), 3) for window in windows if len(window) == WINDOW]
    held_out: dict[str, Any] = losses(model, data, HELD_OUT) if len(seen) == STEPS else {}
    return {part: _finite(held_out.get(part)) for part in ("validation", "test")} | {"curve": curve}


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def step_times() -> dict[str, dict[str, float]]:
    """Milliseconds of the update alone and of a whole step, for each optimiser, taking turns."""
    config, data = load(Recipe(model=MODEL, train=gpt("cpu").train, source="embedded", expect=""), 0)
    batch = data.batch(0, BATCH)
    updates, steps = {}, {}
    for name in RATES:
        model = GPT(config)
        chosen = optimizers(name, model, 1e-6, SECOND[name][1][1])

        def update(chosen: list[torch.optim.Optimizer] = chosen) -> None:
            for optimizer in chosen:
                optimizer.step()

        def step(model: GPT = model, chosen: list[torch.optim.Optimizer] = chosen) -> None:
            F.cross_entropy(model(**batch.inputs).flatten(0, 1), batch.targets.flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            for optimizer in chosen:
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)

        step()
        updates[name], steps[name] = update, step
    parts = {"update": medians(updates, repeats=100), "step": medians(steps, repeats=40)}
    return {part: {name: round(1000 * seconds, 3) for name, seconds in times.items()} for part, times in parts.items()}


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    sweep = Sweep("optimizers")
    clock = time.process_time()

    def measured(*what: Any) -> dict[str, Any]:
        key = f"{MODEL}, {STEPS}, {BATCH}, {CLIP}, {SCHEDULES[what[3]]}, {what}"
        result: dict[str, Any] = sweep(key, lambda: run(*what))
        return result

    def validation(*what: Any) -> float:
        loss = measured(*what)["validation"]
        return math.inf if loss is None else loss

    first = next(iter(SCHEDULES))
    tried, chosen = [], {}
    for name, (meaning, values) in tqdm(SECOND.items(), unit="optimiser", desc="second number"):
        some = RATES[name][1::2]
        lowest = {second: min(validation(name, rate, second, first, 0) for rate in some) for second in values}
        chosen[name] = min(lowest, key=lambda second: lowest[second])
        tried.append(
            {"optimizer": name, "second": meaning, "best validation": list(lowest.items()), "chosen": chosen[name]}
        )
    rows = []
    for schedule in SCHEDULES:
        for name, second in tqdm(chosen.items(), unit="optimiser", desc=schedule):
            rates = RATES[name]
            first_seed = [validation(name, rate, second, schedule, 0) for rate in rates]
            best = first_seed.index(min(first_seed))
            for i, rate in enumerate(rates):
                seeds = SEEDS if schedule == first or abs(i - best) <= 1 else SEEDS[:1]
                runs = [measured(name, rate, second, schedule, seed) for seed in seeds]
                what = {"optimizer": name, "schedule": schedule, "rate": rate, "second": second}
                rows.append(what | {part: [one[part] for one in runs] for part in ("validation", "test", "curve")})
    config = load(Recipe(model=MODEL, train=gpt("cpu").train, source="embedded", expect=""), 0)[0]
    about = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.optimizers",
        "environment": environment(),
        "seeds": list(SEEDS),
        "steps": STEPS,
        "batch": BATCH,
        "warmup": WARMUP,
        "clip": CLIP,
        "window": WINDOW,
        "parameters": count_parameters(GPT(config)),
        "vocab_size": config.vocab_size,
        "milliseconds": step_times(),
    }
    print(f"{time.process_time() - clock:.0f} s of processor time")
    write_table("optimizers", {**about, "second": tried, "rows": rows}, indent=None)


if __name__ == "__main__":
    main()
