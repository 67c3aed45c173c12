"""Sentence pairs from the hub that published scores can be held beside: Multi30k and WMT14, English to German.

Used in `practice/train_translation`.
"""

from collections.abc import Iterable
from typing import Any

from fmcourse.data.translation import Pairs, ParallelSplits

MULTI30K, WMT14 = "bentrevett/multi30k", "wmt/wmt14"
"""Their names on the hub."""


def _hub(*name: str) -> Any:
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{name[0]} is read from the hub with `datasets`; install it with: pip install datasets"
        ) from None
    return load_dataset(*name)


def _splits(rows: dict[str, Iterable[dict[str, str]]]) -> ParallelSplits:
    """The published parts as they are, but without empty sides, and training without a source that is held out."""
    found, held_out = {}, set()
    for name in ("test", "validation", "train"):
        pairs = [(" ".join(row["en"].split()), " ".join(row["de"].split())) for row in rows[name]]
        pairs = [(a, b) for a, b in pairs if a and b and not (name == "train" and a in held_out)]
        held_out |= {a for a, _ in pairs} if name != "train" else set()
        found[name] = Pairs(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
    return ParallelSplits(**found)


def multi30k() -> ParallelSplits:
    """Captions of photographs and their German translations: 29,000 to train on, 1,014 to choose by, test 2016.

    Raises ModuleNotFoundError when `datasets` is not installed. Source: Elliott et al. 2016.
    """
    return _splits(_hub(MULTI30K))


def wmt14() -> ParallelSplits:
    """4.5 million pairs from parliament, the web and the news; newstest2013 to choose by, newstest2014 as the test.

    They stay in memory: some 20 GB with their tokens. Raises ModuleNotFoundError when `datasets` is not installed.
    Source: Bojar et al. 2014.
    """
    parts = _hub(WMT14, "de-en")
    return _splits({name: (row["translation"] for row in parts[name]) for name in ("train", "validation", "test")})


def pieces(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE of that many pieces, trained by the `tokenizers` library: a `tokenizers.Tokenizer`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer
