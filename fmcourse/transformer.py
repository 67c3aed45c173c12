"""The Transformer family: GPT, BERT and the encoder-decoder are short compositions of the same blocks.

Conventions: tokens are (b t) integer ids. `real` marks what is text and what is padding: (b s) booleans, True for
text, covering every position read so far (with a cache: old and new). Padding may stand on either side; positions
count text only.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fmcourse.cache import KVCache
from fmcourse.checks import check_ids
from fmcourse.config import TransformerConfig
from fmcourse.initialise import initialise
from fmcourse.layers import TransformerBlock, make_norm
from fmcourse.masks import check_real, visible
from fmcourse.positions import Rotary, SinusoidalPositions, alibi_bias, alibi_slopes

__all__ = ["BERT", "GPT", "Seq2Seq", "TransformerConfig", "count_parameters"]


def count_parameters(model: nn.Module) -> int:
    """Number of trained numbers in the model, shared ones counted once. Taught in `practice/train_gpt`."""
    return sum(p.numel() for p in model.parameters())


class Stack(nn.Module):
    """Token embedding, position scheme and `n_layers` blocks: the body that all models share.

    Args:
        causal: a position sees itself and earlier ones only.
        cross_attention: every block also attends to a memory.

    Taught in `concepts/architectures`.
    """

    def __init__(self, config: TransformerConfig, *, causal: bool, cross_attention: bool = False) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.segments = nn.Embedding(config.n_segments, config.d_model) if config.n_segments else None
        self.embedding_norm = make_norm(config) if config.embedding_norm else None
        self.positions: nn.Module | None = None
        if config.position == "learned":
            self.positions = nn.Embedding(config.context, config.d_model)
        elif config.position == "sinusoidal":
            self.positions = SinusoidalPositions(config.context, config.d_model)
        self.rotary = Rotary(config.context, config.d_head, config.rope_base) if config.position == "rotary" else None
        self.slopes: Tensor | None
        slopes = alibi_slopes(config.n_heads) if config.position == "alibi" else None
        self.register_buffer("slopes", slopes, persistent=False)
        self.blocks = nn.ModuleList(
            TransformerBlock(config, cross_attention=cross_attention) for _ in range(config.n_layers)
        )
        self.norm = make_norm(config) if config.norm_first else None

    def embed(
        self, tokens: Int[Tensor, "b t"], places: Tensor, segments: Tensor | None = None
    ) -> Float[Tensor, "b t m"]:
        """Token vectors plus what stands for their places (and segments)."""
        check_ids("token id", tokens, "vocab_size", self.config.vocab_size)
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions(places)
        if self.segments is not None:
            segments = torch.zeros_like(tokens) if segments is None else segments
            check_ids("segment id", segments, "n_segments", self.config.n_segments)
            x = x + self.segments(segments)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return F.dropout(x, self.config.dropout, self.training)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        memory: Float[Tensor, "b n m"] | None = None,
        *,
        segments: Int[Tensor, "b t"] | None = None,
        real: Bool[Tensor, "b s"] | None = None,
        memory_real: Bool[Tensor, "b n"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t m"]:
        """Final hidden states of the tokens."""
        batch, t = tokens.shape
        start = cache.length if cache is not None else 0
        s = start + t
        if s > self.config.context:
            raise ValueError(f"the sequence has {s} tokens; this model's context is {self.config.context}")
        key_places = torch.arange(s, device=tokens.device)
        if real is not None:
            check_real(real, batch, s)
            key_places = (real.cumsum(dim=1) - 1).clamp(min=0)
        # The fused kernel has a causal mask of its own; one new token, with nothing padded, may see everything.
        fast = self.causal and real is None and self.slopes is None and start == 0
        free = fast or (real is None and t == 1)
        may_attend = None if free else visible(t, s, causal=self.causal, real=real, device=tokens.device)
        places = key_places[..., start:]
        rotate = self.rotary(places) if self.rotary is not None else None
        bias = alibi_bias(self.slopes, places, key_places) if self.slopes is not None else None
        memory_may_attend = None
        if memory_real is not None:
            assert memory is not None
            check_real(memory_real, *memory.shape[:2])
            memory_may_attend = memory_real[:, None, None, :]
        x = self.embed(tokens, places, segments)
        for i, block in enumerate(self.blocks):
            masks = {"may_attend": may_attend, "causal": fast, "memory_may_attend": memory_may_attend}
            x = block(x, memory, rotate=rotate, score_bias=bias, cache=cache.layers[i] if cache else None, **masks)
        return x if self.norm is None else self.norm(x)


class GPT(nn.Module):
    """Decoder-only Transformer: predicts the next token at every position.

    Built in `practice/train_gpt`. Source: Radford et al. 2019, section 2.3; Brown et al. 2020.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Stack(config, causal=True)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        initialise(self, config)
        if config.tie_embeddings:
            self.head.weight = self.decoder.tokens.weight

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        *,
        real: Bool[Tensor, "b s"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Logits of the token that follows each position.

        Raises:
            ValueError: a token id is out of range, the sequence is longer than the context, or `real` is malformed.
        """
        return self.head(self.decoder(tokens, real=real, cache=cache))


class BERT(nn.Module):
    """Encoder-only Transformer: a vector for every token that depends on the whole text.

    Taught in `concepts/architectures`. Source: Devlin et al. 2019, section 3.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Stack(config, causal=False)
        self.transform = nn.Linear(config.d_model, config.d_model)
        self.transform_norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        initialise(self, config)
        if config.tie_embeddings:
            self.head.weight = self.encoder.tokens.weight

    def hidden(
        self, tokens: Int[Tensor, "b t"], *, segments: Tensor | None = None, real: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t m"]:
        """Contextual token vectors, the input of any task head."""
        return self.encoder(tokens, segments=segments, real=real)

    def forward(
        self, tokens: Int[Tensor, "b t"], *, segments: Tensor | None = None, real: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t v"]:
        """Logits of the masked-language-model head: which token stands (hidden) at each position."""
        hidden = self.hidden(tokens, segments=segments, real=real)
        return self.head(self.transform_norm(F.gelu(self.transform(hidden))))


class Seq2Seq(nn.Module):
    """Encoder-decoder Transformer: reads one sequence, writes another.

    The decoder predicts token i + 1 of the target from the source and targets 0..i; both sides share one vocabulary
    and, when tied, one embedding matrix. Taught in `practice/train_translation`. Source: Vaswani et al. 2017, figure 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Stack(config, causal=False)
        self.decoder = Stack(config, causal=True, cross_attention=True)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        initialise(self, config)
        if config.tie_embeddings:
            self.decoder.tokens.weight = self.encoder.tokens.weight
            self.head.weight = self.encoder.tokens.weight

    def encode(
        self, source: Int[Tensor, "b n"], *, source_real: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n m"]:
        """The memory that the decoder reads."""
        return self.encoder(source, real=source_real)

    def decode(
        self,
        target: Int[Tensor, "b t"],
        memory: Float[Tensor, "b n m"],
        *,
        target_real: Bool[Tensor, "b s"] | None = None,
        source_real: Bool[Tensor, "b n"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Logits of the target token that follows each position."""
        return self.head(self.decoder(target, memory, real=target_real, memory_real=source_real, cache=cache))

    def forward(
        self,
        source: Int[Tensor, "b n"],
        target: Int[Tensor, "b t"],
        *,
        source_real: Bool[Tensor, "b n"] | None = None,
        target_real: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Teacher forcing: logits for every target position in one pass."""
        memory = self.encode(source, source_real=source_real)
        return self.decode(target, memory, target_real=target_real, source_real=source_real)
