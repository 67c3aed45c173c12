"""Train the small summarisers that the book ships, and write down how.

    python -m fmcourse.data.debian package-descriptions           # once
    python -m benchmarks.summarisation_checkpoint pointer         # 15 minutes on one core; goes on where it stopped
    python -m benchmarks.summarisation_checkpoint plain           # the same without copying, to compare with

Trained on what Debian's packages say about themselves (`fmcourse.data.summaries`). The weights, in half precision, the
tokenizer, the configuration, the log of the run and the SHA-256 of its data are in
`fmcourse/weights/summarisation_<kind>.safetensors`. When that file is of these settings already, nothing is done.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.common import environment
from fmcourse.checkpoint import load_checkpoint, save_checkpoint
from fmcourse.config import TransformerConfig
from fmcourse.data.summaries import package_summaries
from fmcourse.data.translation import TranslationData, digest
from fmcourse.pointer import PointerSeq2Seq
from fmcourse.tokenizers import BPETokenizer
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import Seq2Seq, count_parameters
from fmcourse.translator import TIED

ROOT = Path(__file__).resolve().parent.parent
MODELS = {"pointer": PointerSeq2Seq, "plain": Seq2Seq}
VOCAB, MAX_TOKENS, SEED = 5000, 160, 0
TRAIN = TrainConfig(
    steps=1600,  # four times through the pairs
    batch_size=64,
    optimizer="muon",
    lr=5e-3,
    matrix_lr=0.02,
    betas=(0.9, 0.98),
    weight_decay=0.01,
    schedule="trapezoid",
    warmup=50,
    cooldown=0.7,
    floor=0.0,
    label_smoothing=0.1,
    eval_every=100,
    eval_examples=512,
)


def main() -> None:
    """Train, or go on, and write the file that is shipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=MODELS)
    kind = parser.parse_args().kind
    out = ROOT / "fmcourse" / "weights" / f"summarisation_{kind}.safetensors"
    if out.exists() and load_checkpoint(out)[1]["train_config"] == {**asdict(TRAIN), "betas": list(TRAIN.betas)}:
        print(f"{out.name} is finished")
        return
    folder = ROOT / "runs" / f"summarisation_{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    splits = package_summaries()
    merges = ROOT / "runs" / "summarisation_merges.json"
    if not merges.exists():
        text = "\n".join(splits.train.source + splits.train.target)
        merges.write_text(json.dumps(BPETokenizer.train(text, VOCAB).state()), encoding="utf-8")
    tokenizer = BPETokenizer.from_state(json.loads(merges.read_text(encoding="utf-8")))
    data = TranslationData(splits, tokenizer=tokenizer, max_tokens=MAX_TOKENS, seed=SEED)
    config = TransformerConfig(
        vocab_size=data.vocab_size,
        context=2 * MAX_TOKENS,
        d_model=192,
        n_layers=2,
        n_heads=6,
        position="rotary",
        norm="rms",
        activation="relu2",
        bias=False,
        qk_norm=True,
        init="zero_out",
        dropout=0.1,
    )
    torch.manual_seed(SEED)
    model = MODELS[kind](config)
    print(f"{count_parameters(model):,} parameters, {len(data.train_pairs):,} pairs", flush=True)
    history = fit(
        model,
        data,
        TRAIN,
        folder=folder,
        device="cpu",
        progress=False,
        on_evaluation=lambda row: print(row, flush=True),
    )
    tensors, _ = load_checkpoint(folder / "best.safetensors")
    about = {
        "command": f"python -m benchmarks.summarisation_checkpoint {kind}",
        "environment": environment(),
        "data": "Debian 11, descriptions of packages and their headlines",
        "data_sha256": digest(splits),
        "seed": SEED,
        "pairs": len(data.train_pairs),
        "model_config": asdict(config),
        "train_config": asdict(TRAIN),
        "tokenizer": tokenizer.state(),
        "history": history.rows,
    }
    weights = {name.removeprefix("model."): value.half() for name, value in tensors.items()}
    save_checkpoint(out, {name: value for name, value in weights.items() if name not in TIED}, about)
    print(f"wrote {out.name}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
