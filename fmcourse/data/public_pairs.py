"""Pairs from the hub that published scores can be held beside: Multi30k and WMT14 (translation), CNN/DailyMail.

Used in `practice/train_translation` and `practice/train_summarisation`.
"""

from collections.abc import Iterable
from typing import Any

from fmcourse.data.translation import Pairs, ParallelSplits

MULTI30K, WMT14, CNN_DAILYMAIL = "bentrevett/multi30k", "wmt/wmt14", "abisee/cnn_dailymail"
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


def cnn_dailymail() -> ParallelSplits:
    """287,113 articles of CNN and the Daily Mail and the bullet points above them, 13,368 to choose by, 11,490 as test.

    As See et al. 2017 do, the first 400 words of an article are kept, and of a summary the first 100, but for the test.
    The bullet points stand on lines of their own, which is what the published ROUGE-L counts by. Raises
    ModuleNotFoundError when `datasets` is not installed. Source: Hermann et al. 2015; Nallapati et al. 2016.
    """
    found, parts = {}, _hub(CNN_DAILYMAIL, "3.0.0")
    for name in ("train", "validation", "test"):
        rows = [(_first(400, row["article"]), _first(100, row["highlights"])) for row in parts[name]]
        whole = [row["highlights"].strip() for row in parts[name]] if name == "test" else [b for _, b in rows]
        pairs = [(a, b) for (a, _), b in zip(rows, whole, strict=True) if a and b]
        found[name] = Pairs(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
    return ParallelSplits(**found)


def _first(words: int, text: str) -> str:
    """So many words of a text; its lines stay apart."""
    kept = []
    for line in text.split("\n"):
        some = line.split()[:words]
        words -= len(some)
        kept += [" ".join(some)] if some else []
    return "\n".join(kept)


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
