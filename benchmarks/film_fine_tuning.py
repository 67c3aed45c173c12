"""Is our own pretraining worth its time? An encoder fine-tuned or trained from scratch, by number of labels.

    python -m benchmarks.film_fine_tuning scratch        # about four minutes on one core; goes on where it stopped
    python -m benchmarks.film_fine_tuning pretrained     # as long
    python -m benchmarks.film_fine_tuning                # writes fmcourse/results/film_fine_tuning.json

Two tasks with sentences about other films: does a critic speak or does somebody tell the plot ("kind"), and did the
critic like the film ("opinion", at one number of labels). Both methods train the same encoder and head for the same
number of steps; one starts from the book's small BERT (`fmcourse.data.film_models`), the other from random numbers.
Each chooses its learning rate among the same three for each task, by accuracy on validation sentences. A draw of labels
is the same for both. Used in `practice/train_bert`.
"""

import argparse
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.common import environment
from benchmarks.film_models import FOLDER
from benchmarks.sweep import Sweep, write_table
from fmcourse.classification import LabelledData, TextClassifier, classify
from fmcourse.data.film_models import load_film_models
from fmcourse.data.sentiment import LabelledTexts, reviews_and_plots, rotten_tomatoes
from fmcourse.masked_lm import MaskedLM
from fmcourse.recipes import bert
from fmcourse.training import TrainConfig, fit

METHODS = ("scratch", "pretrained")
TASKS = {"kind": reviews_and_plots, "opinion": rotten_tomatoes}
STEPS = {"kind": {10: 30, 30: 40, 100: 50, 300: 60, 1000: 100}, "opinion": {300: 90, 1000: 150}}
CHOOSING, ONLY_FOR_CHOOSING = {"kind": 100, "opinion": 300}, ("opinion", 300)
DRAWS = {"kind": 4, "opinion": 3}
RATES, BATCH, MAX_LENGTH, DROPOUT = (3e-4, 1e-3, 3e-3), 16, 64, 0.1


def fine_tune(task: str, method: str, labels: int, draw: int, rate: float) -> TextClassifier:
    """Train one classifier."""
    splits = TASKS[task]()
    rows = np.random.default_rng(draw).permutation(len(splits.train))[:labels]
    labelled = LabelledTexts(tuple(splits.train.texts[i] for i in rows), tuple(splits.train.labels[i] for i in rows))
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    config = replace(bert("cpu").model, vocab_size=tokenizer.get_vocab_size(), dropout=DROPOUT)
    torch.manual_seed(draw)
    encoder = MaskedLM(config).encoder
    if method == "pretrained":
        encoder.load_state_dict(load_film_models().bert.encoder.state_dict())
    model = TextClassifier(encoder, 2)
    steps = STEPS[task][labels]
    plan = TrainConfig(
        steps=steps,
        batch_size=BATCH,
        lr=rate,
        warmup=steps // 10,
        weight_decay=0.01,
        betas=(0.9, 0.98),
        eval_every=steps,
        eval_examples=1,
        seed=draw,
    )
    data = LabelledData(tokenizer, labelled, splits.validation, max_length=MAX_LENGTH, seed=draw)
    fit(model, data, plan, device="cpu", progress=False)
    return model.eval()


def accuracy(model: TextClassifier, judged: LabelledTexts) -> float:
    """Share of the texts whose label is found."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    logits, _ = classify(model, tokenizer, judged.texts, max_length=MAX_LENGTH)
    return round((logits.argmax(dim=1) == torch.tensor(judged.labels)).float().mean().item(), 4)


def score(task: str, method: str, part: str, labels: int, draw: int, rate: float) -> float:
    """Accuracy of one run on that part, from the file of finished runs if it is there."""

    def run() -> float:
        return accuracy(fine_tune(task, method, labels, draw, rate), getattr(TASKS[task](), part))

    key = f"{part} {labels} labels, {STEPS[task][labels]} steps, draw {draw}, rate {rate}"
    return Sweep(f"film_fine_tuning_{task}_{method}")(key, run)


def main() -> None:
    """Run one method, or write the table of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", choices=METHODS)
    only = parser.parse_args().method
    torch.set_num_threads(1)
    rows, choices = [], []
    for task, method in product(TASKS, METHODS if only is None else (only,)):
        n = CHOOSING[task]
        found = {rate: [score(task, method, "validation", n, draw, rate) for draw in (100, 101)] for rate in RATES}
        choices += [{"task": task, "method": method, "rate": rate, "accuracy": found[rate]} for rate in RATES]
        print(task, method, found, flush=True)
        best = max(RATES, key=lambda rate: sum(found[rate]))
        for labels in STEPS[task]:
            if (task, labels) != ONLY_FOR_CHOOSING:
                right = [score(task, method, "test", labels, draw, best) for draw in range(DRAWS[task])]
                rows.append({"task": task, "method": method, "labels": labels, "rate": best, "accuracy": right})
                print(rows[-1], flush=True)
    if only is None:
        table = {
            "command": "python -m benchmarks.film_fine_tuning",
            "environment": environment("tokenizers"),
            "test_texts": {task: len(load().test) for task, load in TASKS.items()},
            "steps": STEPS,
            "batch_size": BATCH,
            "max_length": MAX_LENGTH,
            "dropout": DROPOUT,
            "choices": choices,
            "rows": rows,
        }
        write_table("film_fine_tuning", table)


if __name__ == "__main__":
    main()
