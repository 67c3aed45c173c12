"""An encoder-decoder that can also copy: each token is either written from the vocabulary or taken from the source.

Taught in `practice/train_summarisation`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fmcourse.cache import KVCache
from fmcourse.config import TransformerConfig
from fmcourse.transformer import Seq2Seq


class PointerSeq2Seq(Seq2Seq):
    """`Seq2Seq` whose output is a mixture of two distributions over the vocabulary.

    With probability `write` the next token is drawn from the usual softmax, otherwise it is a token of the source,
    drawn by one more attention over the memory. What `forward` and `decode` return are log-probabilities, which are
    logits that add up to one already. Source: See et al. 2017, section 2.2, on a Transformer.
    """

    reads_source = True  # `decode` wants to know what the memory was made from

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.point = nn.Linear(config.d_model, config.d_model, bias=False)
        self.write = nn.Linear(config.d_model, 1)
        nn.init.normal_(self.point.weight, std=0.02)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def mixture(
        self,
        hidden: Float[Tensor, "b t m"],
        memory: Float[Tensor, "b n m"],
        source: Int[Tensor, "b n"],
        source_real: Bool[Tensor, "b n"] | None = None,
    ) -> tuple[Float[Tensor, "b t v"], Float[Tensor, "b t n"], Float[Tensor, "b t 1"]]:
        """Log-probabilities of the next token, where the pointer looks, and the log-probability of writing."""
        scores = self.point(hidden) @ memory.mT / memory.shape[-1] ** 0.5
        if source_real is not None:
            scores = scores.masked_fill(~source_real[:, None], float("-inf"))
        # At least in float32: under autocast, probabilities would suffer from rounding.
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.to(wide).softmax(dim=-1)
        gate = self.write(hidden).to(wide)
        written = gate.sigmoid() * self.head(hidden).to(wide).softmax(dim=-1)
        places = source[:, None].expand(-1, hidden.shape[1], -1)
        both = written.scatter_add(-1, places, (-gate).sigmoid() * weights)
        # A floor keeps the logarithm finite where neither way leads to a token.
        return both.clamp_min(1e-30).log(), weights, F.logsigmoid(gate)

    def decode(  # type: ignore[override]
        self,
        target: Int[Tensor, "b t"],
        memory: Float[Tensor, "b n m"],
        *,
        source: Int[Tensor, "b n"],
        target_real: Bool[Tensor, "b s"] | None = None,
        source_real: Bool[Tensor, "b n"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Log-probabilities of the target token that follows each position; `source` is what `memory` encodes."""
        hidden = self.decoder(target, memory, real=target_real, memory_real=source_real, cache=cache)
        return self.mixture(hidden, memory, source, source_real)[0]

    def forward(
        self,
        source: Int[Tensor, "b n"],
        target: Int[Tensor, "b t"],
        *,
        source_real: Bool[Tensor, "b n"] | None = None,
        target_real: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Teacher forcing: log-probabilities for every target position in one pass."""
        memory = self.encode(source, source_real=source_real)
        return self.decode(target, memory, source=source, target_real=target_real, source_real=source_real)
