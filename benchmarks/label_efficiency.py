"""How many labels is a pretrained encoder worth? Sentiment of film reviews, from 10 labels to all there are.

    python -m benchmarks.label_efficiency        # about two minutes on two cores; writes the committed table

The same comparison as in the chapter `concepts/what_is_a_foundation_model`, which stops at 3,000 labels to stay within
its minute and shows this table, `fmcourse/results/label_efficiency.json`, for the rest.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tqdm import tqdm

import fmcourse
from benchmarks.common import environment
from benchmarks.sweep import write_table
from fmcourse.data.sentiment import LabelledTexts, rotten_tomatoes
from fmcourse.device import autocast
from fmcourse.pretrained import load_minilm

SIZES = (10, 30, 100, 300, 1000, 3000, 5000, 7000)
SEEDS = 5


def heads() -> dict[str, ClassifierMixin]:
    """The two methods: words counted and weighted, and vectors of the frozen encoder; a linear classifier on each."""
    return {
        "TF-IDF": make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=10, max_iter=1000, class_weight="balanced"),
        ),
        "encoder": LogisticRegression(C=3, max_iter=1000, class_weight="balanced"),
    }


def main() -> None:
    """Embed every review once, fit both methods to growing numbers of labels, write the table."""
    splits = rotten_tomatoes()
    device, _ = fmcourse.setup()
    encoder = load_minilm()
    encoder.model.to(device)

    def inputs(part: LabelledTexts) -> dict[str, NDArray[np.generic]]:
        chunks = [part.texts[i : i + 512] for i in range(0, len(part), 512)]
        with autocast(device, "auto"):
            vectors = torch.cat([encoder.embed(chunk) for chunk in tqdm(chunks, unit="chunk", leave=False)])
        return {"TF-IDF": np.array(part.texts, dtype=object), "encoder": vectors.float().cpu().numpy()}

    train, test = inputs(splits.train), inputs(splits.test)
    labels, truth = np.array(splits.train.labels), np.array(splits.test.labels)
    rows, right = [], {}
    for size in (*SIZES, len(labels)):
        for name in train:
            scores = []
            for seed in range(SEEDS if size < len(labels) else 1):
                chosen = np.random.default_rng(seed).permutation(len(labels))[:size]
                fitted = heads()[name].fit(train[name][chosen], labels[chosen])
                right[name] = fitted.predict(test[name]) == truth
                scores.append(round(float(right[name].mean()), 4))
            rows.append({"method": name, "labels": size, "accuracy": scores})
    lead = right["encoder"].astype(float) - right["TF-IDF"]  # review by review, both with every label
    table = {
        "command": "python -m benchmarks.label_efficiency",
        "environment": environment(),
        "test_texts": len(truth),
        "lead_with_all_labels": round(float(lead.mean()), 4),
        "lead_standard_error": round(float(lead.std(ddof=1) / len(lead) ** 0.5), 4),
        "rows": rows,
    }
    write_table("label_efficiency", table)


if __name__ == "__main__":
    main()
