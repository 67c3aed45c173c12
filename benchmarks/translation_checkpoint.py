"""Train the small translators from English that the book ships, and write down how.

    python -m fmcourse.data.debian libreoffice-help-en-us libreoffice-help-de libreoffice-help-zh-cn   # once
    python -m benchmarks.translation_checkpoint de              # about an hour on one core; goes on where it stopped
    python -m benchmarks.translation_checkpoint zh

Trained on LibreOffice's help pages (`fmcourse.data.translation.help_pages`). The weights, in half precision, the
tokenizer, the configuration, the log of the run and the SHA-256 of its data are in
`fmcourse/weights/translation_<language>.safetensors`, which `fmcourse.translator.load_translation` reads.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import torch

from benchmarks.common import environment
from fmcourse.checkpoint import load_checkpoint, save_checkpoint
from fmcourse.config import TransformerConfig
from fmcourse.data.translation import Language, TranslationData, digest, help_pages
from fmcourse.tokenizers import BPETokenizer
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import Seq2Seq, count_parameters
from fmcourse.translator import TIED

ROOT = Path(__file__).resolve().parent.parent
NAMES = {"de": "German", "zh": "Chinese"}
VOCAB, MAX_TOKENS, SEED = 5000, 64, 0
TRAIN = TrainConfig(
    steps=5200,  # for German, twelve and a half times through the pairs
    batch_size=64,
    optimizer="muon",
    lr=3e-3,
    matrix_lr=0.01,
    betas=(0.9, 0.98),
    weight_decay=0.01,
    schedule="trapezoid",
    warmup=100,
    cooldown=0.7,
    floor=0.0,
    label_smoothing=0.1,
    eval_every=400,
    eval_examples=1024,
)


def model_config(vocab_size: int) -> TransformerConfig:
    """The shape of the model."""
    return TransformerConfig(
        vocab_size=vocab_size,
        context=2 * MAX_TOKENS,
        d_model=192,
        n_layers=3,
        n_heads=6,
        position="rotary",
        norm="rms",
        activation="relu2",
        bias=False,
        qk_norm=True,
        init="zero_out",
        dropout=0.1,
    )


def main() -> None:
    """Train, or go on, and write the file that is shipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", choices=get_args(Language))
    language: Language = parser.parse_args().language
    out = ROOT / "fmcourse" / "weights" / f"translation_{language}.safetensors"
    folder = ROOT / "runs" / f"translation_{language}"
    splits = help_pages(language)
    folder.mkdir(parents=True, exist_ok=True)
    merges = folder / "merges.json"
    if not merges.exists():
        text = "\n".join(splits.train.source + splits.train.target)
        merges.write_text(json.dumps(BPETokenizer.train(text, VOCAB).state()), encoding="utf-8")
    tokenizer = BPETokenizer.from_state(json.loads(merges.read_text(encoding="utf-8")))
    data = TranslationData(splits, tokenizer=tokenizer, max_tokens=MAX_TOKENS, seed=SEED)
    config = model_config(data.vocab_size)
    torch.manual_seed(SEED)
    model = Seq2Seq(config)
    print(f"{count_parameters(model):,} parameters, {len(data.train_pairs):,} pairs")
    history = fit(model, data, TRAIN, folder=folder, device="cpu", on_evaluation=lambda row: print(row, flush=True))
    tensors, _ = load_checkpoint(folder / "best.safetensors")
    about = {
        "command": f"python -m benchmarks.translation_checkpoint {language}",
        "environment": environment(),
        "data": f"LibreOffice 7.4 help, English to {NAMES[language]} (MPL-2.0)",
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
