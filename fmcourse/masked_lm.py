"""BERT as it is pretrained: logits at the gaps alone. Taught in `practice/train_bert`."""

import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fmcourse.transformer import BERT


class MaskedLM(BERT):
    """A `BERT` that can be asked about some places only: the same weights and logits, less arithmetic.

    Taught in `practice/train_bert`. Source: Devlin et al. 2019, released code.
    """

    def forward(
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
            places = repeat(gaps, "b k -> b k m", m=hidden.shape[-1])
            hidden = hidden.gather(1, places)
        vectors = self.transform_norm(F.gelu(self.transform(hidden)))
        return self.head(vectors)
