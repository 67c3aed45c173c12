"""Four ways to learn from few labels: from scratch, a frozen encoder with a head, full fine-tuning, and LoRA.

    OMP_NUM_THREADS=1 python -m benchmarks.fine_tuning   # about half an hour on one core; writes the committed table

Film reviews, MiniLM, 10 to 1,000 labels, five draws of labels: those of `benchmarks.label_efficiency`. Every method
chooses among five settings (learning rates; for the frozen encoder, strengths of the penalty) by its accuracy on
validation reviews with 100 labels, in draws that are used for nothing else. After runs
with the most labels it is also measured what the encoder can still do of what it could before: find the paragraph that
explains a function of SciPy, and tell SciPy's fields apart with a linear head. The chapter
`concepts/pretraining_and_finetuning` shows the table, `fmcourse/results/fine_tuning.json`.
"""

import copy
import random
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.sweep import Sweep, write_table
from fmcourse.classification import LabelledData, TextClassifier, classify
from fmcourse.data.documentation import documented_functions, search_pairs
from fmcourse.data.sentiment import LabelledTexts, SentimentSplits, rotten_tomatoes
from fmcourse.device import autocast, pick_precision
from fmcourse.lora import add_lora
from fmcourse.pretrained import SentenceEncoder, load_minilm
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import BERT

STEPS = {10: 20, 30: 30, 100: 40, 300: 50, 1000: 60}
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)  # scikit-learn's C, on vectors of length 1
SEEDS = (0, 1, 2, 3, 4)
CHOOSING, CHOSEN_AT = (100, 101), 100  # draws to choose the settings by, and their number of labels
TARGETS = ("query", "key", "value", "out", "up", "down")
SETTINGS = {"frozen": PENALTIES, "full": RATES, "LoRA": RATES, "scratch, small": RATES}
RATES_SHOWN = [("full", rate) for rate in RATES[:4]] + [("LoRA", rate) for rate in RATES[2:]]  # for forgetting
RANK, ALPHA = 8, 16.0
MAX_LENGTH, BATCH, N_TEST, N_VALIDATION = 40, 16, 500, 500
SMALL = {"d_model": 64, "n_layers": 2, "n_heads": 2, "d_ff": 256}  # the other size from scratch


@cache
def _material() -> tuple[SentimentSplits, SentenceEncoder]:
    return rotten_tomatoes(), load_minilm()


def draw(size: int, seed: int) -> LabelledTexts:
    """The labelled reviews of that draw."""
    train = _material()[0].train
    rows = np.random.default_rng(seed).permutation(len(train))[:size]
    return LabelledTexts(tuple(train.texts[i] for i in rows), tuple(train.labels[i] for i in rows))


def build(method: str, seed: int, rank: int = RANK) -> TextClassifier:
    """The model of that method before training."""
    torch.manual_seed(seed)
    encoder = _material()[1].model
    if method.startswith("scratch"):
        config = encoder.config
        sizes = SMALL if method == "scratch, small" else {}
        fresh = BERT(type(config)(**{**vars(config), **sizes}))
        return TextClassifier(fresh.encoder, 2)
    model = TextClassifier(copy.deepcopy(encoder.encoder), 2)
    if method == "LoRA":
        add_lora(model.encoder, TARGETS, rank=rank, alpha=ALPHA)
    return model


def remembered(model: TextClassifier) -> dict[str, float]:
    """What the encoder still can: shares of right answers in searching, and in naming SciPy's fields."""
    tokenizer = _material()[1].tokenizer
    headlines, details = search_pairs()
    asked = classify(model, tokenizer, headlines, max_length=MAX_LENGTH)[1]
    found = (asked @ classify(model, tokenizer, details, max_length=MAX_LENGTH)[1].T).argmax(dim=1)
    functions = list(documented_functions())
    random.Random(0).shuffle(functions)
    functions = functions[:700]
    fields = np.array([one.field for one in functions])
    vectors = classify(model, tokenizer, [one.headline for one in functions], max_length=MAX_LENGTH)[1].numpy()
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    head = LogisticRegression(C=3, max_iter=1000, class_weight="balanced").fit(vectors[:300], fields[:300])
    right = (found == torch.arange(len(found))).float().mean()
    return {"search": round(float(right), 4), "fields": round(float(head.score(vectors[300:], fields[300:])), 4)}


def score(model: nn.Module, part: str) -> dict[str, float]:
    """Accuracy on that part of the reviews."""
    splits, encoder = _material()
    texts = getattr(splits, part)[: N_TEST if part == "test" else N_VALIDATION]
    logits = classify(model, encoder.tokenizer, texts.texts, max_length=MAX_LENGTH)[0]  # type: ignore[arg-type]
    return {"accuracy": round((logits.argmax(dim=1) == torch.tensor(texts.labels)).float().mean().item(), 4)}


def run(method: str, size: int, seed: int, rate: float, part: str, rank: int = RANK) -> dict[str, float]:
    """Train and measure; with the most labels also what is left of the encoder."""
    splits, encoder = _material()
    model = build(method, seed, rank)
    data = LabelledData(encoder.tokenizer, draw(size, seed), splits.validation, max_length=MAX_LENGTH, seed=seed)
    steps = STEPS[size] * (2 if method.startswith("scratch") else 1)
    config = TrainConfig(
        steps=steps, batch_size=BATCH, lr=rate, warmup=steps // 10, weight_decay=0.01, betas=(0.9, 0.999), seed=seed
    )
    try:
        fit(model, data, _quiet(config), device="cpu", progress=False)
    except FloatingPointError:
        return {"accuracy": 0.5, "search": 0.0, "fields": 0.0}
    model.eval()
    with autocast(torch.device("cpu"), "auto"):
        keeps = size == max(STEPS) and not method.startswith("scratch")
        return {**score(model, part), **(remembered(model) if keeps else {})}


def _quiet(config: TrainConfig) -> TrainConfig:
    """The same without looking at the validation reviews on the way."""
    return TrainConfig(**{**vars(config), "eval_every": config.steps, "eval_examples": 1})


@cache
def _frozen(part: str, seed: int = 0) -> tuple[Any, Any]:
    """Unit vectors of the frozen encoder, and the labels."""
    splits, encoder = _material()
    texts = draw(1000, seed) if part == "train" else getattr(splits, part)
    texts = texts[: {"test": N_TEST, "validation": N_VALIDATION}.get(part)]  # type: ignore[misc]
    model = build("frozen", 0).eval()
    with autocast(torch.device("cpu"), "auto"):
        vectors = classify(model, encoder.tokenizer, texts.texts, max_length=MAX_LENGTH)[1].numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.array(texts.labels)


def run_frozen(size: int, seed: int, penalty: float, part: str) -> dict[str, float]:
    """A head on the frozen encoder's vectors, fitted to the end: it has one best solution."""
    x, y = (rows[:size] for rows in _frozen("train", seed))
    head = LogisticRegression(C=penalty, max_iter=1000, class_weight="balanced").fit(x, y)
    return {"accuracy": round(float(head.score(*_frozen(part))), 4)}


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    sweep, bar = Sweep("fine_tuning"), tqdm(unit="run")

    def measured(method: str, size: int, seed: int, setting: float, part: str, rank: int = RANK) -> dict[str, float]:
        bar.set_postfix_str(f"{method}, {size}, {seed}, {setting}, {rank}")
        bar.update()
        key = f"{method}, {size}, {seed}, {setting}, {part}, {rank}, {STEPS[size]}, {MAX_LENGTH}"
        if method == "frozen":
            return dict(sweep(key, lambda: run_frozen(size, seed, setting, part)))
        return dict(sweep(key, lambda: run(method, size, seed, setting, part, rank)))

    choices, chosen = [], {}
    for method, values in SETTINGS.items():
        runs = {v: [measured(method, CHOSEN_AT, seed, v, "validation") for seed in CHOOSING] for v in values}
        chosen[method] = max(runs, key=lambda v: sum(one["accuracy"] for one in runs[v]))
        choices += [{"method": method, "setting": value, **_columns(found)} for value, found in runs.items()]
    chosen["scratch"] = chosen["full"]  # of the same size
    plan: list[tuple[str, int, int]] = [(method, size, RANK) for size in reversed(STEPS) for method in SETTINGS]
    rows: dict[tuple[str, int, int], list[dict[str, float]]] = defaultdict(list)
    for seed in SEEDS:
        for method, size, rank in plan:
            rows[method, size, rank].append(measured(method, size, seed, chosen[method], "test"))
    forgetting = []
    for method, rate in RATES_SHOWN:
        found = [measured(method, 1000, seed, rate, "test") for seed in SEEDS[:2]]
        forgetting.append({"method": method, "rate": rate, **_columns(found)})
    extra = [("LoRA", 1000, 1), ("LoRA", 1000, 32), ("scratch", 1000, RANK)]
    for seed in SEEDS[:2]:
        for method, size, rank in extra:
            rows[method, size, rank].append(measured(method, size, seed, chosen[method], "test", rank))
    with autocast(torch.device("cpu"), "auto"):
        before = sweep(f"before, {MAX_LENGTH}", lambda: remembered(build("frozen", 0).eval()))
    table = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.fine_tuning",
        "environment": environment("scikit-learn", "scipy") | {"precision": pick_precision(torch.device("cpu"))},
        "steps": {str(size): steps for size, steps in STEPS.items()},
        "targets": list(TARGETS),
        "alpha": ALPHA,
        "max_length": MAX_LENGTH,
        "batch_size": BATCH,
        "test_texts": N_TEST,
        "validation_texts": N_VALIDATION,
        "small": SMALL,
        "before": before,
        "choices": choices,
        "rows": [
            {"method": method, "labels": size, "rank": rank, "setting": chosen[method], **_columns(found)}
            for (method, size, rank), found in rows.items()
        ],
        "forgetting": forgetting,
    }
    write_table("fine_tuning", table)


def _columns(measures: list[dict[str, float]]) -> dict[str, list[float]]:
    """By measure, one value a seed."""
    return {name: [one[name] for one in measures] for name in measures[0]}


if __name__ == "__main__":
    main()
