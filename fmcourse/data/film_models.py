"""The small BERT that comes with the book, and a GPT beside it. Taught in `practice/train_bert`."""

from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from fmcourse.checkpoint import CheckpointError, load_checkpoint, load_weights
from fmcourse.config import TransformerConfig
from fmcourse.masked_lm import MaskedLM
from fmcourse.transformer import GPT

FILE = Path(__file__).resolve().parent.parent / "weights" / "films.safetensors"
TIED = {"bert": "encoder.tokens.weight", "gpt": "decoder.tokens.weight"}  # the same matrix as head.weight: stored once


class FilmModels(NamedTuple):
    """A BERT and a GPT of the same size, trained on the same film reviews and plots with the same arithmetic.

    Args:
        about: how they were made: `command`, `environment`, `seed`, `data_sha256`, and for each model its
            `model_config`, `train_config`, `flops_per_step` and `history`.

    Taught in `practice/train_bert`.
    """

    bert: MaskedLM
    gpt: GPT
    tokenizer: Tokenizer
    about: dict[str, Any]


def load_film_models(file: Path = FILE) -> FilmModels:
    """The two small models that the book ships, made by `python -m benchmarks.film_models`; float32, for evaluation.

    Raises CheckpointError when the file is missing, cut off, altered, or of other models.

    Taught in `practice/train_bert`. Source: Devlin et al. 2019; text as in `fmcourse.data.sentiment.film_texts`.
    """
    tensors, about = load_checkpoint(file)
    try:
        configs = {name: TransformerConfig(**about[name]["model_config"]) for name in TIED}
        tokenizer = Tokenizer.from_str(about["tokenizer"])
    except Exception as error:  # the library raises nothing more exact
        raise CheckpointError(f"{file} does not describe the models: {type(error).__name__} {error}") from error
    models = FilmModels(MaskedLM(configs["bert"]), GPT(configs["gpt"]), tokenizer, about)
    for name, shared in TIED.items():
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        model = getattr(models, name)
        load_weights(model, {"head.weight": own[shared], **own} if shared in own else own, file)
        model.eval()
    return models
