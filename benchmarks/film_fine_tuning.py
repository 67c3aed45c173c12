"""Is our own pretraining worth its time? Sentiment of film reviews, fine-tuned or from scratch, by number of labels.

    python -m benchmarks.film_fine_tuning scratch        # about five minutes on one core; goes on where it stopped
    python -m benchmarks.film_fine_tuning pretrained     # as long
    python -m benchmarks.film_fine_tuning                # writes fmcourse/results/film_fine_tuning.json

Both methods train the same encoder and head for the same number of steps; one starts from the book's small BERT
(`fmcourse.data.film_models`), the other from random numbers. Each chooses its learning rate among the same three, by
accuracy on validation reviews with 300 labels. A draw of labels is the same for both. Used in `practice/train_bert`.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.common import environment
from benchmarks.film_models import FOLDER
from benchmarks.sweep import Sweep, write_table
from fmcourse.classification import LabelledData, TextClassifier, classify
from fmcourse.data.film_models import load_film_models
from fmcourse.data.sentiment import LabelledTexts, rotten_tomatoes
from fmcourse.masked_lm import MaskedLM
from fmcourse.recipes import bert
from fmcourse.training import TrainConfig, fit

METHODS = ("scratch", "pretrained")
STEPS = {10: 30, 30: 40, 100: 60, 300: 90, 1000: 150, 8954: 560}
DRAWS = {10: 4, 30: 4, 100: 4, 300: 4, 1000: 3, 8954: 2}  # of labels; fewer where a run is long
RATES, CHOOSING, BATCH, MAX_LENGTH, DROPOUT = (3e-4, 1e-3, 3e-3), 300, 16, 64, 0.1


def fine_tune(method: str, labels: int, draw: int, rate: float) -> TextClassifier:
    """Train one classifier."""
    splits = rotten_tomatoes()
    rows = np.random.default_rng(draw).permutation(len(splits.train))[:labels]
    labelled = LabelledTexts(tuple(splits.train.texts[i] for i in rows), tuple(splits.train.labels[i] for i in rows))
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    config = replace(bert("cpu").model, vocab_size=tokenizer.get_vocab_size(), dropout=DROPOUT)
    torch.manual_seed(draw)
    encoder = MaskedLM(config).encoder
    if method == "pretrained":
        encoder.load_state_dict(load_film_models().bert.encoder.state_dict())
    model = TextClassifier(encoder, 2)
    steps = STEPS[labels]
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


def main() -> None:
    """Run one method, or write the table of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", choices=METHODS)
    only = parser.parse_args().method
    torch.set_num_threads(1)
    splits, rows, choices = rotten_tomatoes(), [], []
    for method in METHODS if only is None else (only,):
        sweep = Sweep(f"film_fine_tuning_{method}")

        def score(labels: int, draw: int, rate: float, part: str, method=method, sweep=sweep) -> float:
            def run() -> float:
                return accuracy(fine_tune(method, labels, draw, rate), getattr(splits, part))

            return sweep(f"{part} {labels} labels, {STEPS[labels]} steps, draw {draw}, rate {rate}", run)

        for rate in RATES:
            found = [score(CHOOSING, draw, rate, "validation") for draw in (100, 101)]
            choices.append({"method": method, "rate": rate, "accuracy": found})
            print(choices[-1], flush=True)
        best = max((one for one in choices if one["method"] == method), key=lambda one: sum(one["accuracy"]))["rate"]
        for labels in STEPS:
            found = [score(labels, draw, best, "test") for draw in range(DRAWS[labels])]
            rows.append({"method": method, "labels": labels, "rate": best, "accuracy": found})
            print(rows[-1], flush=True)
    if only is None:
        table = {
            "command": "python -m benchmarks.film_fine_tuning",
            "environment": environment("tokenizers"),
            "test_texts": len(splits.test),
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
