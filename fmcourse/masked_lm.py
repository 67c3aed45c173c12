"""BERT as it is pretrained, with logits at the gaps alone, and the small one that comes with the book.

Taught in `practice/train_bert`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from fmcourse.checkpoint import CheckpointError, load_checkpoint, load_weights
from fmcourse.config import TransformerConfig
from fmcourse.transformer import BERT, GPT

FILE = Path(__file__).resolve().parent / "weights" / "films.safetensors"
TIED = {"bert": "encoder.tokens.weight", "gpt": "decoder.tokens.weight"}  # the same matrix as head.weight: stored once


class MaskedLM(BERT):
    """A `BERT` that can be asked about some places only: the same weights, the same logits there, less arithmetic.

    The head costs d_model x vocab_size multiplications at every place that is asked about, and most places of a
    training text are not scored. Taught in `practice/train_bert`. Source: Devlin et al. 2019 (released code).
    """

    def forward(  # type: ignore[override]
        self,
        tokens: Int[Tensor, "b t"],
        gaps: Int[Tensor, "b k"] | None = None,
        *,
        segments: Tensor | None = None,
        real: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b k v"]:
        """Logits of the tokens at the places `gaps`, or at every place."""
        hidden = self.hidden(tokens, segments=segments, real=real)
        if gaps is not None:
            hidden = hidden.gather(1, repeat(gaps, "b k -> b k m", m=hidden.shape[-1]))
        vectors = self.transform_norm(F.gelu(self.transform(hidden)))
        return self.head(vectors)


class FilmModels(NamedTuple):
    """A BERT and a GPT of the same size, trained on the same film reviews and plots with the same arithmetic.

    Args:
        about: how they were made: `command`, `environment`, `seed`, `data_sha256`, and for each model its
            `model_config`, `train_config` and `history`.

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
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} does not describe the models: {type(error).__name__} {error}") from error
    models = FilmModels(MaskedLM(configs["bert"]), GPT(configs["gpt"]), tokenizer, about)
    for name, shared in TIED.items():
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        model = getattr(models, name)
        load_weights(model, {"head.weight": own[shared], **own} if shared in own else own, file)
        model.eval()
    return models
