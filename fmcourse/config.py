"""The one description of a Transformer's shape, checked once, when it is made. Taught in `concepts/architectures`."""

from dataclasses import dataclass
from typing import Literal

from fmcourse.checks import check_choice, check_positive

Position = Literal["none", "learned", "sinusoidal", "rotary", "alibi"]
Norm = Literal["layer", "rms"]
Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "swiglu"]
Init = Literal["normal", "zero_out"]


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and choices of a Transformer; every model of the book is built from one of these.

    The defaults are GPT-2's choices (learned positions, LayerNorm before each sublayer, GELU, biases, tied embedding).

    Args:
        vocab_size: number of token ids, v.
        context: the longest sequence the model accepts, in tokens.
        d_model: width of the residual stream, m.
        n_layers: number of blocks (of each stack, in an encoder-decoder).
        n_heads: attention heads, h; must divide d_model.
        n_kv_heads: heads of keys and values; fewer than n_heads is grouped-query attention (Ainslie et al. 2023).
        d_ff: hidden width of the feed-forward layer; 4 * d_model when None.
        position: how order enters the model (`fmcourse.positions`).
        rope_base: base of the rotary wavelengths (Su et al. 2021, section 3.2.2).
        norm: "layer" (Ba et al. 2016) or "rms" (Zhang & Sennrich 2019).
        norm_first: normalise before each sublayer (GPT-2) rather than after it (Vaswani et al. 2017, BERT).
        activation: nonlinearity of the feed-forward layer; "swiglu" is the gated one of Shazeer 2020.
        bias: linear layers and LayerNorms have a bias.
        qk_norm: RMS-normalise queries and keys in every head (Henry et al. 2020), which bounds the scores.
        tie_embeddings: the output matrix is the token embedding (Press & Wolf 2017).
        n_segments: size of BERT's segment embedding; 0 leaves it out.
        embedding_norm: normalise the embeddings before the first block (BERT).
        init: "normal" is GPT-2's N(0, 0.02) with residual projections scaled down by sqrt(2 n_layers); "zero_out"
            starts every residual projection at zero, so that the network begins as the identity.
        dropout: probability of dropping a unit after embeddings, attention and feed-forward.

    Raises:
        ValueError: a size or choice is not possible; the message says what to change.
    """

    vocab_size: int
    context: int
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    d_ff: int | None = None
    position: Position = "learned"
    rope_base: float = 10_000.0
    norm: Norm = "layer"
    norm_eps: float = 1e-5
    norm_first: bool = True
    activation: Activation = "gelu_tanh"
    bias: bool = True
    qk_norm: bool = False
    tie_embeddings: bool = True
    n_segments: int = 0
    embedding_norm: bool = False
    init: Init = "normal"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "d_model", "n_layers", "n_heads", "rope_base", "norm_eps"):
            check_positive(name, getattr(self, name))
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} must divide d_model={self.d_model}")
        if self.n_kv_heads is not None:
            check_positive("n_kv_heads", self.n_kv_heads)
            if self.n_heads % self.n_kv_heads:
                raise ValueError(f"n_kv_heads={self.n_kv_heads} must divide n_heads={self.n_heads}")
        if self.d_ff is not None:
            check_positive("d_ff", self.d_ff)
        check_choice("position", self.position, Position)
        check_choice("norm", self.norm, Norm)
        check_choice("activation", self.activation, Activation)
        check_choice("init", self.init, Init)
        if self.position == "rotary" and self.d_head % 2:
            raise ValueError(f"position='rotary' needs an even head width; d_model / n_heads is {self.d_head}")
        if self.position == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"position='sinusoidal' needs an even d_model; got {self.d_model}")
        if self.n_segments < 0:
            raise ValueError(f"n_segments must be 0 or more; got {self.n_segments}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1); got {self.dropout}")

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def d_hidden(self) -> int:
        """Hidden width of the feed-forward layer."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff
