"""Who remembers what, over which distance? A Transformer and an LSTM with equally many parameters, on two tasks.

    OMP_NUM_THREADS=1 python -m benchmarks.long_range_recall          # some minutes on one core; writes the table
    OMP_NUM_THREADS=1 python -m benchmarks.long_range_recall shell    # one task by itself, beside the other

*Waiter*: orders of up to 16 guests, talk, then a question about each guest. *Shell game*: three cups are swapped, where
is the ball? Tasks and models are those of the chapter `algorithm/strengths_and_limits`, read from its notebook. Each
model chose its learning rate (and the LSTM, as a waiter, the bias of its forget gates) by the loss of seed 0 on
episodes of their own, among equally many steps. The table is `fmcourse/results/long_range_recall.json`.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.from_chapter import definitions
from benchmarks.sweep import Sweep, write_table
from fmcourse.config import TransformerConfig
from fmcourse.data.batch import IGNORE, Batch
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import GPT, count_parameters

SEEDS = (0, 1, 2)
RATES = (1e-3, 3e-3, 1e-2)
FORGET = (1.0, 3.0)
STEPS, LONGER = 400, 4
GUESTS, DISTANCES = (1, 2, 4, 8, 16), (8, 16, 32, 64, 128, 256, 512)
TESTED, MOVES = 64, 256
CHAPTER = definitions(
    "algorithm/strengths_and_limits",
    """N_GUESTS N_DISHES N_TALK ASK TALK ANSWER VOCABULARY waiter evening shell_game Episodes Recurrent transformer
    recurrent learn accuracy""",
    {"torch": torch, "nn": nn, "GPT": GPT, "TransformerConfig": TransformerConfig, "TrainConfig": TrainConfig}
    | {"IGNORE": IGNORE, "Batch": Batch, "fit": fit, "count_parameters": count_parameters},
)
VOCABULARIES = {"waiter": CHAPTER["VOCABULARY"], "shell": 3}
Choice = dict[str, Any]  # learning rate, and what the model is made with


def models(task: str, vocab_size: int) -> dict[str, tuple[Callable[..., nn.Module], list[Choice]]]:
    """Each model and the choices among which it may choose."""

    def gpt(position: str) -> Callable[[], nn.Module]:
        return lambda: CHAPTER["transformer"](vocab_size, position)

    def lstm(forget: float) -> nn.Module:
        model: nn.Module = CHAPTER["recurrent"](vocab_size, forget=forget)
        return model

    rates: list[Choice] = [{"rate": rate} for rate in RATES]
    gates = [
        {**choice, "forget": forget} for choice in rates for forget in (FORGET if task == "waiter" else FORGET[:1])
    ]
    found = {"Transformer, rotary": (gpt("rotary"), rates), "LSTM": (lstm, gates)}
    # Without positions the Transformer could not play the shell game: order is all that counts there.
    return {"Transformer, no positions": (gpt("none"), rates), **found} if task == "waiter" else found


def waiter_accuracy(model: nn.Module) -> list[list[float]]:
    """Share of right answers by number of guests and distance."""
    rows = []
    for n in GUESTS:
        generator = torch.Generator().manual_seed(1_000 + n)
        batches = [CHAPTER["waiter"](generator, TESTED, n, distance) for distance in DISTANCES]
        rows.append([round(CHAPTER["accuracy"](model, batch).mean().item(), 4) for batch in batches])
    return rows


def shell_accuracy(model: nn.Module) -> list[float]:
    """Share of right answers after 1, 2, ... moves."""
    batch = CHAPTER["shell_game"](torch.Generator().manual_seed(1_000), 256, MOVES)
    return [round(share, 4) for share in CHAPTER["accuracy"](model, batch).tolist()]


def run(make: Callable[..., nn.Module], choice: Choice, task: str, steps: int, seed: int) -> dict[str, Any]:
    """Train one model; its loss on episodes of their own, and its accuracy."""
    episodes, measure = {"waiter": ("evening", waiter_accuracy), "shell": ("shell_game", shell_accuracy)}[task]
    torch.manual_seed(seed)
    model = make(**{name: value for name, value in choice.items() if name != "rate"})
    loss = CHAPTER["learn"](model, CHAPTER[episodes], choice["rate"], steps, seed)
    with torch.no_grad():
        return {"validation": round(loss, 4), "accuracy": measure(model), "parameters": count_parameters(model)}


def rows(task: str, vocab_size: int) -> list[dict[str, Any]]:
    """Choose and measure each model on one task; an interrupted sweep goes on with the next run."""
    sweep, found = Sweep(f"long_range_recall_{task}"), []
    for name, (make, choices) in tqdm(models(task, vocab_size).items(), unit="model", desc=task):

        def measured(choice: Choice, steps: int, seed: int, name: str = name, make: Any = make) -> Any:
            key = f"{task}, {name}, {choice}, {steps} steps, seed {seed}"
            return sweep(key, lambda: run(make, choice, task, steps, seed))

        losses = [measured(choice, STEPS, 0)["validation"] for choice in choices]
        best = choices[losses.index(min(losses))]
        lengths = [STEPS, STEPS * LONGER] if (task, name) == ("waiter", "LSTM") else [STEPS]
        for steps in lengths:
            runs = [measured(best, steps, seed) for seed in SEEDS]
            seen = {key: [one[key] for one in runs] for key in ("validation", "accuracy")}
            found.append({"name": name, **best, "steps": steps, "parameters": runs[0]["parameters"], **seen})
    return found


def main(tasks: list[str]) -> None:
    """Run what was not run yet of these tasks; of all tasks, write the table."""
    torch.set_num_threads(1)
    table = {task: rows(task, VOCABULARIES[task]) for task in tasks or VOCABULARIES}
    about = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.long_range_recall",
        "seeds": list(SEEDS),
        "rates": list(RATES),
        "forget": list(FORGET),
        "guests": list(GUESTS),
        "distances": list(DISTANCES),
        "tested": TESTED,
        "environment": environment(),
    }
    if not tasks:
        write_table("long_range_recall", {**about, **table})


if __name__ == "__main__":
    main(sys.argv[1:])
