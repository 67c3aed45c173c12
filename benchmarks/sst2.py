"""Fine-tune a BERT that the recipe "bert" has pretrained on SST-2, the sentiment task that its published sizes report.

    fmcourse train bert --preset t4        # first: pretraining, which leaves runs/bert/best.safetensors
    python -m benchmarks.sst2              # then: five learning rates, chosen by held-out training phrases

Writes runs/sst2.json. Needs a GPU, the hub, and `pip install datasets`; not measured on a GPU yet. Turc et al. (2019)
report accuracies on GLUE's hidden test sentences, this one those of its validation part. Used in `practice/train_bert`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import fmcourse
from benchmarks.common import environment
from fmcourse.checkpoint import load_checkpoint, load_weights
from fmcourse.classification import LabelledData, TextClassifier, classify
from fmcourse.config import TransformerConfig
from fmcourse.data.sentiment import LabelledTexts, SentimentSplits, sst2
from fmcourse.device import autocast
from fmcourse.masked_lm import MaskedLM
from fmcourse.tokenizers import from_state
from fmcourse.training import TrainConfig, fit

RATES, EPOCHS, BATCH, MAX_LENGTH = (5e-5, 1e-4, 3e-4, 5e-4, 1e-3), 4, 64, 64  # 4 epochs, as Turc et al.


def pretrained(file: Path) -> tuple[MaskedLM, Any]:
    """The model and the `tokenizers.Tokenizer` of a run of `fmcourse train bert`."""
    tensors, about = load_checkpoint(file)
    model = MaskedLM(TransformerConfig(**about["model_config"]))
    load_weights(model, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}, file)
    return model, from_state(about["tokenizer"]).tokenizer  # type: ignore[attr-defined]


def accuracy(model: TextClassifier, tokenizer: Any, judged: LabelledTexts) -> float:
    """Share of the texts whose label is found."""
    with autocast(model.head.weight.device, "auto"):
        logits, _ = classify(model.eval(), tokenizer, judged.texts, max_length=MAX_LENGTH)
    return (logits.argmax(dim=1) == torch.tensor(judged.labels)).float().mean().item()


def fine_tune(
    file: Path, splits: SentimentSplits, rate: float, *, epochs: int = EPOCHS, device: Any = None
) -> dict[str, float]:
    """Train everything at that rate and judge it."""
    body, tokenizer = pretrained(file)
    model = TextClassifier(body.encoder, 2)
    steps = max(1, epochs * len(splits.train) // BATCH)
    config = TrainConfig(
        steps=steps,
        batch_size=BATCH,
        lr=rate,
        warmup=steps // 10,
        weight_decay=0.01,
        betas=(0.9, 0.999),
        eval_every=steps,
    )
    data = LabelledData(tokenizer, splits.train, splits.validation, max_length=MAX_LENGTH)
    fit(model, data, config, device=device)
    found = {name: accuracy(model, tokenizer, getattr(splits, name)) for name in ("validation", "test")}
    return {"rate": rate, **{name: round(value, 4) for name, value in found.items()}}


def main() -> None:
    """All rates; the one that is best on held-out phrases counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("runs/bert/best.safetensors"))
    file = parser.parse_args().file
    device, preset = fmcourse.setup()
    splits = sst2()
    rows = [fine_tune(file, splits, rate, device=device) for rate in RATES]
    best = max(rows, key=lambda row: row["validation"])
    out = {"preset": preset, "environment": environment(), "rows": rows, "accuracy": best["test"]}
    Path("runs/sst2.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    print(f"SST-2: {best['test']:.1%} at rate {best['rate']}")


if __name__ == "__main__":
    main()
