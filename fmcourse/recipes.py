"""Complete recipes, from sizes to learning rates: what `fmcourse train` and the training chapters run.

Taught in `practice/train_gpt`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fmcourse.checks import check_choice
from fmcourse.config import TransformerConfig
from fmcourse.data.batch import Batch, DataSource
from fmcourse.data.dates import dates_and_quantities
from fmcourse.data.film_models import load_film_models
from fmcourse.data.fineweb import gpt2_tokenizer, read_tokens
from fmcourse.data.masked import MaskedLanguageData, Vocabulary, n_gaps, packed
from fmcourse.data.public_pairs import cnn_dailymail, multi30k, pieces, wmt14
from fmcourse.data.sentiment import film_texts, rotten_tomatoes
from fmcourse.data.summaries import package_summaries
from fmcourse.data.text import LanguageModelData, shakespeare
from fmcourse.data.translation import TranslationData
from fmcourse.data.wikitext import bert_tokenizer, wikitext
from fmcourse.device import Preset
from fmcourse.masked_lm import MaskedLM
from fmcourse.pointer import PointerSeq2Seq
from fmcourse.tokenizers import CharacterTokenizer, LibraryTokenizer, Tokenizer
from fmcourse.training import TrainConfig
from fmcourse.transformer import GPT, Seq2Seq

Task = Literal["gpt", "bert", "translation", "summarisation"]
MODELS: dict[Task, Callable[[TransformerConfig], nn.Module]] = {
    "gpt": GPT,
    "bert": MaskedLM,
    "translation": Seq2Seq,
    "summarisation": PointerSeq2Seq,
}
HIDDEN = 0.3  # share of the tokens that a BERT's recipe hides: twice BERT's own, as in ModernBERT


class Loaded(NamedTuple):
    """What `Recipe.load` found: the configuration with the size of the vocabulary, the batches, and the tokenizer."""

    model: TransformerConfig
    data: DataSource
    tokenizer: Tokenizer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model, how to train it and on which data.

    Args:
        task: the kind of model and of data.
        model: its vocab_size is the published one, or a placeholder: `load` puts the real one in.
        source: which data; what it names depends on the task.
        expect: the score to expect, and where that number comes from.
    """

    task: Task = "gpt"
    model: TransformerConfig
    train: TrainConfig
    source: str
    expect: str

    def load(self, seed: int = 0) -> Loaded:
        """Configuration, batches (drawn by `seed`) and tokenizer. Raises what the loader of the data raises."""
        return LOADERS[self.task](self, seed)

    def build(self, config: TransformerConfig | None = None) -> nn.Module:
        """The model with fresh weights, of `load`'s configuration or, for a look at its sizes, of the recipe's own."""
        return MODELS[self.task](self.model if config is None else config)

    def example(self, size: int) -> Batch:
        """A batch of the largest shape that training sees, on the meta device: shapes without numbers."""

        def ids(length: int) -> Tensor:
            return torch.zeros(size, length, dtype=torch.long, device="meta")

        if self.task == "gpt":
            return Batch({"tokens": ids(self.model.context)}, ids(self.model.context))
        if self.task == "bert":
            gaps = n_gaps(HIDDEN, self.model.context)
            return Batch({"tokens": ids(self.model.context), "gaps": ids(gaps)}, ids(gaps))
        longest = self.model.context // (8 if self.task == "summarisation" else 2)
        source, target = ids(self.model.context // 2), ids(longest)
        inputs = {"source": source, "target": target, "source_real": torch.ones_like(source, dtype=torch.bool)}
        return Batch(inputs, ids(longest))


def _load_gpt(recipe: Recipe, seed: int) -> Loaded:
    tokenizer: Tokenizer
    if recipe.source == "fineweb_edu":
        train, validation = read_tokens()
        tokenizer = LibraryTokenizer(gpt2_tokenizer())
        data = LanguageModelData(train, validation, tokenizer=tokenizer, context=recipe.model.context, seed=seed)
        return Loaded(replace(recipe.model, vocab_size=tokenizer.vocab_size), data, tokenizer)
    splits = shakespeare(recipe.source)  # type: ignore[arg-type]
    tokenizer = CharacterTokenizer(splits.train + splits.validation + splits.test, byte_fallback=False)
    data = LanguageModelData(
        splits.train,
        splits.validation,
        test=splits.test,
        tokenizer=tokenizer,
        context=recipe.model.context,
        seed=seed,
    )
    return Loaded(replace(recipe.model, vocab_size=tokenizer.vocab_size), data, tokenizer)


def _load_bert(recipe: Recipe, seed: int) -> Loaded:
    tokenizer = bert_tokenizer() if recipe.source == "wikitext" else load_film_models().tokenizer
    films = film_texts, lambda: rotten_tomatoes().validation.texts
    texts = wikitext() if recipe.source == "wikitext" else (part() for part in films)
    train, validation = (packed(tokenizer, part) for part in texts)
    vocabulary, context = Vocabulary.of(tokenizer), recipe.model.context
    data = MaskedLanguageData(train, validation, vocabulary=vocabulary, context=context, share=HIDDEN, seed=seed)
    return Loaded(replace(recipe.model, vocab_size=vocabulary.size), data, LibraryTokenizer(tokenizer))


def _load_translation(recipe: Recipe, seed: int) -> Loaded:
    splits = {"dates": dates_and_quantities, "multi30k": multi30k, "wmt14": wmt14}[recipe.source]()
    texts = [*splits.train.source, *splits.train.target]
    tokenizer: Tokenizer
    if recipe.source == "dates":
        tokenizer = CharacterTokenizer("".join(texts), byte_fallback=False)
    else:
        tokenizer = LibraryTokenizer(pieces(texts, recipe.model.vocab_size - 2))
    data = TranslationData(splits, tokenizer=tokenizer, max_tokens=recipe.model.context // 2, seed=seed)
    return Loaded(replace(recipe.model, vocab_size=data.vocab_size), data, tokenizer)


def _load_summarisation(recipe: Recipe, seed: int) -> Loaded:
    splits = cnn_dailymail() if recipe.source == "cnn_dailymail" else package_summaries()
    tokenizer = LibraryTokenizer(pieces([*splits.train.source, *splits.train.target], recipe.model.vocab_size - 2))
    # A text may take half of the context; a summary has a quarter of its tokens at most (`Recipe.example` knows).
    half = recipe.model.context // 2
    data = TranslationData(splits, tokenizer=tokenizer, max_tokens=half, max_target=half // 4, seed=seed)
    return Loaded(replace(recipe.model, vocab_size=data.vocab_size), data, tokenizer)


LOADERS: dict[Task, Callable[[Recipe, int], Loaded]] = {
    "gpt": _load_gpt,
    "bert": _load_bert,
    "translation": _load_translation,
    "summarisation": _load_summarisation,
}


def nanogpt_cpu() -> Recipe:
    """nanoGPT's recipe for a small CPU run, on our text: the baseline that `gpt("cpu")` must beat.

    Source: Karpathy 2022, nanoGPT README, section "quick start" (CPU).
    """
    return Recipe(
        model=TransformerConfig(vocab_size=1, context=64, bias=False, activation="gelu"),
        train=TrainConfig(
            steps=2000, batch_size=12, lr=1e-3, betas=(0.9, 0.99), warmup=100, precision="fp32", eval_every=250
        ),
        source="embedded",
        expect="the baseline: no published loss for this text",
    )


def gpt(preset: Preset) -> Recipe:
    """The course's character-level GPT at the size that suits the device.

    Raises ValueError for an unknown preset.
    """
    modern = TransformerConfig(
        vocab_size=1,
        context=64,
        position="rotary",
        activation="relu2",
        bias=False,
        qk_norm=True,
        init="zero_out",
        tie_embeddings=False,
    )
    train = TrainConfig(
        steps=1100,
        batch_size=24,
        optimizer="muon",
        lr=9e-3,
        matrix_lr=0.01,
        weight_decay=0.0,
        schedule="trapezoid",
        warmup=10,
        cooldown=0.6,
        floor=0.0,
        eval_every=100,
    )
    large = replace(modern, vocab_size=65, context=256, d_model=384, n_layers=6, n_heads=6, dropout=0.2)
    long = replace(train, steps=2000, batch_size=64, eval_examples=None, lr=3e-3, weight_decay=0.1)
    published = "nanoGPT reports 1.4697 for this text, split, size and context; ours was not measured on a GPU yet"
    recipes = {
        "cpu": Recipe(model=modern, train=train, source="embedded", expect="see `practice/train_gpt`"),
        "t4": Recipe(model=large, train=replace(long, precision="fp16"), source="hub", expect=published),
        "gpu": Recipe(model=large, train=replace(long, precision="bf16", compile=True), source="hub", expect=published),
    }
    check_choice("preset", preset, recipes)
    return recipes[preset]


def gpt2_124m() -> Recipe:
    """GPT-2 of 124 million parameters on 10 billion tokens of FineWeb-Edu, for several large GPUs.

    A step reads 524,288 tokens, as in GPT-3's smallest model; with four processes a micro-batch is 16 sequences.
    Source: Radford et al. 2019, table 2 (sizes); Brown et al. 2020, table 2.1 (batch, learning rate), appendix B.
    """
    return Recipe(
        model=TransformerConfig(vocab_size=50_257, context=1024, d_model=768, n_layers=12, n_heads=12),
        train=TrainConfig(
            steps=19_073,  # once through the tokens
            batch_size=512,
            accumulate=8,
            lr=6e-4,
            betas=(0.9, 0.95),
            weight_decay=0.1,
            warmup=715,  # GPT-3's 375 million tokens
            precision="bf16",
            compile=True,
            eval_every=250,
            eval_examples=1024,
        ),
        source="fineweb_edu",
        expect="build-nanogpt gives OpenAI's GPT-2 3.2924 on FineWeb-Edu; ours was not measured on a GPU yet",
    )


def bert(preset: Preset) -> Recipe:
    """BERT's pretraining by masked language modelling; the large presets have BERT-Mini's and BERT-Medium's size.

    Raises ValueError for an unknown preset. Source: Devlin et al. 2019 (task); Turc et al. 2019 (sizes).
    """
    base = gpt("cpu")
    model = replace(base.model, tie_embeddings=True)
    train = replace(base.train, steps=1340, batch_size=64, lr=4e-3, matrix_lr=0.015, warmup=50, cooldown=0.4)
    mini = replace(model, vocab_size=30_522, context=128, d_model=256)
    medium = replace(mini, d_model=512, n_layers=8, n_heads=8)
    long = replace(train, steps=4000, batch_size=256, lr=2e-3, weight_decay=0.01, warmup=200, eval_every=500)
    half = replace(long, precision="fp16")
    fast = replace(long, steps=15_000, batch_size=512, lr=1e-3, precision="bf16", compile=True)
    published = "Turc et al. 2019 report {} % on SST-2 for this size; ours was not measured on a GPU yet"
    small = Recipe(task="bert", model=model, train=train, source="embedded", expect="see `practice/train_bert`")
    recipes = {
        "cpu": small,
        "t4": replace(small, model=mini, train=half, source="wikitext", expect=published.format(85.9)),
        "gpu": replace(small, model=medium, train=fast, source="wikitext", expect=published.format(89.6)),
    }
    check_choice("preset", preset, recipes)
    return recipes[preset]


def translation(preset: Preset) -> Recipe:
    """An encoder-decoder: dates and quantities on a CPU, captions of photographs (Multi30k) on a GPU.

    Raises ValueError for an unknown preset. Taught in `practice/train_translation`. Source of the sizes for Multi30k:
    Wu et al. 2021, Transformer-Tiny.
    """
    cpu = gpt("cpu")
    model = replace(cpu.model, context=96, n_layers=2, tie_embeddings=True)
    train = replace(cpu.train, steps=500, batch_size=96, lr=5e-3, matrix_lr=0.02, betas=(0.9, 0.98), warmup=20)
    tiny = replace(model, vocab_size=10_000, context=256, n_layers=4, d_ff=256, dropout=0.3)
    long = replace(train, steps=6000, batch_size=256, lr=3e-3, warmup=200, label_smoothing=0.1, eval_every=500)
    published = "Wu et al. 2021 report 41.0 BLEU for this size on test 2016; ours was not measured on a GPU yet"
    captions = Recipe(task="translation", model=tiny, train=long, source="multi30k", expect=published)
    recipes = {
        "cpu": replace(captions, model=model, train=train, source="dates", expect="see `practice/train_translation`"),
        "t4": replace(captions, train=replace(long, precision="fp16")),
        "gpu": replace(captions, train=replace(long, precision="bf16", compile=True)),
    }
    check_choice("preset", preset, recipes)
    return recipes[preset]


def translation_wmt14() -> Recipe:
    """The base model of the Transformer's paper on 4.5 million sentence pairs of WMT14, for several large GPUs.

    Source: Vaswani et al. 2017, table 3 (sizes), section 5 (25,000 tokens of each side a step, label smoothing).
    """
    return Recipe(
        task="translation",
        model=TransformerConfig(
            vocab_size=37_000, context=256, d_model=512, n_layers=6, n_heads=8, position="sinusoidal", dropout=0.1
        ),
        train=TrainConfig(
            steps=100_000,
            batch_size=896,
            accumulate=4,
            lr=7e-4,
            betas=(0.9, 0.98),
            weight_decay=0.0,
            warmup=4000,
            label_smoothing=0.1,
            precision="bf16",
            eval_every=1000,
        ),
        source="wmt14",
        expect="Vaswani et al. 2017 report 27.3 BLEU on newstest2014; ours was not measured on a GPU yet",
    )


def summarisation(preset: Preset) -> Recipe:
    """An encoder-decoder that can copy: headlines of packages on a CPU, news (CNN/DailyMail) on a GPU.

    Raises ValueError for an unknown preset. Taught in `practice/train_summarisation`.
    """
    cpu = translation("cpu")
    model = replace(cpu.model, vocab_size=4002, context=320, d_model=96, n_layers=1, n_heads=3)
    train = replace(cpu.train, steps=130, batch_size=48, lr=1e-2, matrix_lr=0.03, eval_every=26, eval_examples=256)
    news = replace(model, vocab_size=16_002, context=1536, d_model=256, n_layers=4, n_heads=4, dropout=0.1)
    long = replace(
        train,
        steps=20_000,
        batch_size=64,
        accumulate=4,
        lr=2e-3,
        matrix_lr=0.01,
        warmup=500,
        label_smoothing=0.1,
        eval_every=1000,
    )
    published = (
        "See et al. 2017 report ROUGE-1 and -2 of 36.44 and 15.66 for copying alone, 40.34 and 17.70 for the first "
        "three sentences; ours was not measured on a GPU yet"
    )
    small = Recipe(task="summarisation", model=news, train=long, source="cnn_dailymail", expect=published)
    large = replace(news, vocab_size=32_002, d_model=512, n_layers=6, n_heads=8)
    recipes = {
        "cpu": replace(small, model=model, train=train, source="packages", expect="see `practice/train_summarisation`"),
        "t4": replace(small, train=replace(long, precision="fp16")),
        "gpu": replace(small, model=large, train=replace(long, steps=40_000, lr=1e-3, precision="bf16", compile=True)),
    }
    check_choice("preset", preset, recipes)
    return recipes[preset]


RECIPES: dict[str, Callable[[Preset], Recipe]] = {"gpt": gpt, "gpt2-124m": lambda preset: gpt2_124m()}
RECIPES |= {"bert": bert}
RECIPES |= {"translation": translation, "translation-wmt14": lambda preset: translation_wmt14()}
RECIPES["summarisation"] = summarisation


def recipe_for(name: str, preset: Preset) -> Recipe:
    """The recipe of that name at that preset; one made for large GPUs alone is the same at each.

    Raises ValueError for an unknown name or preset.
    """
    check_choice("recipe", name, RECIPES)
    return RECIPES[name](preset)
