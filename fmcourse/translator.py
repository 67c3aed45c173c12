"""The small translators from English that come with the book, ready to use.

Taught in `mathematics/translation_worked_example`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fmcourse.beam_search import Hypothesis, OnStep, beam_search
from fmcourse.checkpoint import CheckpointError, load_checkpoint, load_weights
from fmcourse.checks import check_choice
from fmcourse.config import TransformerConfig
from fmcourse.pointer import PointerSeq2Seq
from fmcourse.tokenizers import Tokenizer, from_state
from fmcourse.transformer import Seq2Seq

FOLDER = Path(__file__).resolve().parent / "weights"
Trained = Literal["de", "zh"]
Summariser = Literal["pointer", "plain"]
TIED = ("decoder.tokens.weight", "head.weight")  # the same matrix as encoder.tokens.weight: stored once


@dataclass(frozen=True)
class Translator:
    """A trained encoder-decoder and its tokenizer: sentences to sentences.

    Args:
        model: our `Seq2Seq`.
        tokenizer: of both languages; the two ids after its own are `start` and `end`.
        about: how the weights were made: `command`, `environment`, `seed`, `data`, `data_sha256`, `pairs`,
            `model_config`, `train_config` and `history`, the log of the run.

    Taught in `mathematics/translation_worked_example`.
    """

    model: Seq2Seq
    tokenizer: Tokenizer
    about: dict[str, Any]

    @property
    def start(self) -> int:
        """What the decoder reads first."""
        return self.tokenizer.vocab_size

    @property
    def end(self) -> int:
        """What closes a source, and what the decoder writes last."""
        return self.tokenizer.vocab_size + 1

    @property
    def longest(self) -> int:
        """How many tokens an output may have: as many as the decoder was trained on."""
        return self.model.config.context // 2

    def encode(self, sentence: str) -> list[int]:
        """The ids that the encoder reads.

        Raises ValueError when there is nothing to translate, or more than the model was trained to read.
        """
        ids = self.tokenizer.encode(sentence)
        if not ids:
            raise ValueError("there is nothing to translate: the sentence is empty")
        if len(ids) >= self.longest:
            raise ValueError(f"the sentence has {len(ids)} tokens; at most {self.longest - 1} can be translated")
        return [*ids, self.end]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of an output; start and end, which have no text, are left out."""
        return self.tokenizer.decode([token for token in tokens if token < self.start])

    def search(
        self,
        sentences: Sequence[str],
        *,
        beam_size: int = 4,
        alpha: float = 0.6,
        max_new_tokens: int | None = None,
        batch_size: int = 64,
        on_step: OnStep | None = None,
    ) -> list[list[Hypothesis]]:
        """The best outputs of every sentence (`fmcourse.beam_search.beam_search`). Those of like length run together.

        `max_new_tokens` is `longest` when None; `on_step` counts the sentences as they are given. Raises ValueError as
        `encode` and `beam_search` do.
        """
        sources = [self.encode(sentence) for sentence in sentences]
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        found: dict[int, list[Hypothesis]] = {}
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            report = None if on_step is None else lambda i, *rest, rows=rows: on_step(rows[i], *rest)
            outputs = beam_search(
                self.model,
                [sources[i] for i in rows],
                start=self.start,
                end=self.end,
                max_new_tokens=max_new_tokens or self.longest,
                beam_size=beam_size,
                alpha=alpha,
                on_step=report,
            )
            found |= dict(zip(rows, outputs, strict=True))
        return [found[i] for i in range(len(sources))]

    def translate(self, sentences: Sequence[str], *, beam_size: int = 4, alpha: float = 0.6) -> list[str]:
        """The best translation of every sentence; `beam_size=1, alpha=0` is greedy. Raises what `search` raises."""
        return [self.decode(best[0].tokens) for best in self.search(sentences, beam_size=beam_size, alpha=alpha)]


def load_translation(language: Trained = "de", file: Path | None = None) -> Translator:
    """The translator from English that the book ships, trained by `python -m benchmarks.translation_checkpoint`.

    Its weights are stored in half precision and run in float32.

    Args:
        file: another one, such as the `best.safetensors` that `fmcourse train translation` leaves in its folder.

    Raises:
        ValueError: there is none into that language.
        CheckpointError: the file is missing, cut off, altered, or of another model.

    Taught in `mathematics/translation_worked_example`. Source: Vaswani et al. 2017; LibreOffice 7.4 help (MPL-2.0).
    """
    check_choice("language", language, Trained)
    return _load(file or FOLDER / f"translation_{language}.safetensors", Seq2Seq, "translator")


def load_summariser(kind: Summariser = "pointer", file: Path | None = None) -> Translator:
    """The writer of headlines that the book ships, trained by `python -m benchmarks.summarisation_checkpoint`.

    It reads English and writes less of it; `translate` gives the headline of every text.

    Args:
        kind: "pointer" can copy from the text (`fmcourse.pointer`), "plain" cannot.
        file: another one, such as the `best.safetensors` that `fmcourse train summarisation` leaves in its folder.

    Raises as `load_translation`.

    Taught in `practice/train_summarisation`. Source: See et al. 2017; Debian 11, package descriptions.
    """
    check_choice("kind", kind, Summariser)
    models = {"pointer": PointerSeq2Seq, "plain": Seq2Seq}
    return _load(file or FOLDER / f"summarisation_{kind}.safetensors", models[kind], "summariser")


def _load(file: Path, make: type[Seq2Seq], name: str) -> Translator:
    stored, about = load_checkpoint(file)
    tensors = {name.removeprefix("model."): tensor for name, tensor in stored.items()}
    try:
        config, tokenizer = TransformerConfig(**about["model_config"]), from_state(about["tokenizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} does not describe a {name}: {type(error).__name__} {error}") from error
    model = make(config)
    shared = {name: tensors["encoder.tokens.weight"] for name in TIED if "encoder.tokens.weight" in tensors}
    load_weights(model, {**shared, **tensors}, file)
    return Translator(model.eval(), tokenizer, about)
