"""FineWeb-Edu, educational pages from the web, as GPT-2 tokens in one file that is read as a memory map.

    python -m fmcourse.data.fineweb --tokens 10_000_000_000     # once, before training; goes on where it stopped

The first documents are for validation, the rest for training: no document is in both.
Taught in `practice/train_gpt`. Source: Penedo et al. 2024 (pages); Radford et al. 2019, section 2.2 (tokens).
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from fmcourse.checks import check_positive
from fmcourse.data.registry import MissingDataError

DATA, SAMPLE = "HuggingFaceFW/fineweb-edu", "sample-10BT"
FOLDER = Path("data/fineweb_edu")
VALIDATION_TOKENS = 10 * 2**20
END_OF_TEXT = "<|endoftext|>"


def write_tokens(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    n_tokens: int,
    n_validation: int = VALIDATION_TOKENS,
    at_once: int = 256,
) -> None:
    """Append the documents' tokens to `folder`/tokens.bin (uint16), each document after an end-of-text token.

    Progress is noted after every `at_once` documents; a later call with the same documents goes on from there, and a
    finished file is left as it is.

    Args:
        tokenizer: a `tokenizers.Tokenizer` with an end-of-text token and at most 65,536 ids.
        n_tokens: stop when the training part has so many tokens; `n_validation` come before them.

    Raises:
        ValueError: a count is not positive, or the documents end too early.

    Taught in `practice/train_gpt`.
    """
    check_positive("n_tokens", n_tokens)
    check_positive("n_validation", n_validation)
    separator = tokenizer.token_to_id(END_OF_TEXT)
    if separator is None or tokenizer.get_vocab_size() > 2**16:
        raise ValueError(f"tokenizer needs the token {END_OF_TEXT} and at most 65,536 ids")
    folder.mkdir(parents=True, exist_ok=True)
    note, file = folder / "progress.json", folder / "tokens.bin"
    fresh = {"documents": 0, "tokens": 0, "validation": 0}
    done = json.loads(note.read_text(encoding="utf-8")) if note.exists() else fresh
    left = iter(documents)
    next(islice(left, done["documents"], done["documents"]), None)  # skip what is written
    with file.open("r+b" if note.exists() else "wb") as out, tqdm(total=n_tokens, unit="token", unit_scale=True) as bar:
        out.truncate(2 * done["tokens"])  # drop what was written after the last note
        out.seek(0, 2)
        while done["tokens"] - done["validation"] < n_tokens or not done["validation"]:
            texts = list(islice(left, at_once))
            if not texts:
                raise ValueError(
                    f"the documents end after {done['tokens']:,} tokens; n_tokens={n_tokens:,} were asked for"
                )
            for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
                ids = np.array([separator, *encoding.ids], dtype=np.uint16)
                out.write(ids.tobytes())
                done["tokens"] += len(ids)
                if not done["validation"] and done["tokens"] >= n_validation:
                    done["validation"] = done["tokens"]
            done["documents"] += len(texts)
            out.flush()
            part = note.with_suffix(".part")
            part.write_text(json.dumps(done), encoding="utf-8")
            part.replace(note)
            bar.update(max(0, done["tokens"] - done["validation"]) - bar.n)


def read_tokens(folder: Path = FOLDER) -> tuple[np.ndarray, np.ndarray]:
    """The training and the validation tokens that `write_tokens` made, as memory maps (uint16).

    Raises MissingDataError, with the command that makes them, when they are not here. Taught in `practice/train_gpt`.
    """
    note = folder / "progress.json"
    done = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    if not done.get("validation") or done["tokens"] == done["validation"]:
        raise MissingDataError(
            f"{folder} holds no tokens yet; make them (once, online) with: python -m fmcourse.data.fineweb"
        )
    tokens = np.memmap(folder / "tokens.bin", dtype=np.uint16, mode="r", shape=(done["tokens"],))
    return tokens[done["validation"] :], tokens[: done["validation"]]


def _pages() -> Iterator[str]:
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "FineWeb-Edu is read with `datasets`; install it with: pip install datasets"
        ) from None
    return (row["text"] for row in load_dataset(DATA, name=SAMPLE, split="train", streaming=True))


def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's published byte-level BPE, from the hub, as a `tokenizers.Tokenizer`. Taught in `practice/train_gpt`."""
    return Tokenizer.from_pretrained("gpt2")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch FineWeb-Edu and write it as GPT-2 tokens.")
    parser.add_argument("--tokens", type=int, default=10_000_000_000, help="how many to train on")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    write_tokens(_pages(), gpt2_tokenizer(), given.folder, n_tokens=given.tokens)
