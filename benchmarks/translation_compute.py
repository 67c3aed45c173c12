"""How the quality of the English-German translator grows with the arithmetic spent on its training.

    python -m benchmarks.translation_compute      # about half an hour on one core; goes on where it stopped

The recipe of the shipped translator (`benchmarks/translation_checkpoint.py`) with a fraction of its steps, each run a
complete schedule of its own, from the same seed and in the same order of pairs; the shipped weights are the last point.
One fraction is trained without label smoothing too. Every run translates all test pairs greedily. Shown in
`practice/train_translation`; the table is `fmcourse/results/translation_compute.json`.
"""

from dataclasses import replace

import torch

from benchmarks.common import environment
from benchmarks.sweep import ROOT, Sweep, write_table
from benchmarks.translation_checkpoint import MAX_TOKENS, SEED, TRAIN, model_config
from benchmarks.translation_quality import dictionary, fitting, scores, signatures
from fmcourse.data.translation import TranslationData, help_pages
from fmcourse.training import TrainConfig, evaluate, fit
from fmcourse.transformer import Seq2Seq
from fmcourse.translator import Translator, load_translation

RUNS = ((16, 0.1), (8, 0.1), (4, 0.1), (8, 0.0))  # a fraction of the steps, and the label smoothing


def weights(model: Seq2Seq) -> tuple[int, int]:
    """How many weights every source token, and every target token, is multiplied by; to look up a vector is free."""
    crossed = sum(
        p.numel()
        for block in model.decoder.blocks
        for name in ("key", "value")
        for p in getattr(block.cross_attention, name).parameters()
    )  # the decoder makes these of the source
    encoder, decoder = (sum(p.numel() for p in stack.parameters()) for stack in (model.encoder, model.decoder))
    vectors = model.head.weight.numel()  # in both sums, and read once, by the head
    return encoder - vectors + crossed, decoder - crossed


def arithmetic(model: Seq2Seq, data: TranslationData, train: TrainConfig) -> float:
    """Six operations for each weight and token, padding included; the scores of attention are left out."""
    encoder, decoder = weights(model)
    total = 0
    for step in range(train.steps):
        inputs = data.batch(step, train.batch_size).inputs
        total += encoder * inputs["source"].numel() + decoder * inputs["target"].numel()
    return 6.0 * total


def judge(translator: Translator, data: TranslationData, pairs: list[tuple[str, str]]) -> dict:
    """Loss on every validation pair, and what sacreBLEU says of the greedy translations of the test pairs."""
    outputs = translator.translate([a for a, _ in pairs], beam_size=1, alpha=0)
    loss = round(evaluate(translator.model, data.validation(64)), 4)
    return {"validation_loss": loss, **scores(outputs, [b for _, b in pairs])}


def main() -> None:
    """Train, or go on, and write the table."""
    splits, shipped = help_pages("de"), load_translation("de")
    data = TranslationData(splits, tokenizer=shipped.tokenizer, max_tokens=MAX_TOKENS, seed=SEED)
    pairs = fitting(shipped, splits.test)
    config, sweep = model_config(data.vocab_size), Sweep("translation_compute")

    def run(share: int, smoothing: float) -> dict:
        train = replace(TRAIN, steps=TRAIN.steps // share, label_smoothing=smoothing, eval_every=TRAIN.steps // share)
        torch.manual_seed(SEED)
        model = Seq2Seq(config)
        folder = ROOT / "runs" / f"translation_compute_{share}_{smoothing}"
        history = fit(model, data, replace(train, eval_every=100), folder=folder, device="cpu", progress=False)
        row = judge(Translator(model.eval(), shipped.tokenizer, {}), data, pairs)
        train_loss = round(history.column("train_loss")[-1], 4)
        return {
            "share": share,
            "steps": train.steps,
            "label_smoothing": smoothing,
            "operations": arithmetic(model, data, train),
            "seconds": round(history.column("seconds")[-1]),
            "train_loss": train_loss,
            **row,
        }

    sources, references = ([pair[i] for pair in pairs] for i in (0, 1))
    train_pairs = list(zip(splits.train.source, splits.train.target, strict=True))
    by_words = dictionary(train_pairs, sources)
    table = {
        "command": "python -m benchmarks.translation_compute",
        "environment": environment("sacrebleu"),
        "data_sha256": shipped.about["data_sha256"],
        "pairs": len(pairs),
        "weights": dict(zip(("source", "target"), weights(shipped.model), strict=True)),
        "signatures": signatures(by_words, references),
        "baselines": {"copy the source": scores(sources, references), "dictionary": scores(by_words, references)},
    }
    last = {
        "share": 1,
        "steps": TRAIN.steps,
        "label_smoothing": TRAIN.label_smoothing,
        "operations": arithmetic(shipped.model, data, TRAIN),
        "seconds": round(shipped.about["history"][-1]["seconds"]),
        "train_loss": round(shipped.about["history"][-1]["train_loss"], 4),
        **sweep(f"shipped {shipped.about['seed']} {TRAIN}", lambda: judge(shipped, data, pairs)),
    }
    rows: list[dict] = []
    for share, smoothing in RUNS:
        rows.append(sweep(f"{share} {smoothing} {TRAIN}", lambda s=share, e=smoothing: run(s, e)))
        print(rows[-1], flush=True)
        write_table("translation_compute", {**table, "rows": [*rows, last]})


if __name__ == "__main__":
    main()
