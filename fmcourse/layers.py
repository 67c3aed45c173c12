"""The parts of a block around attention: feed-forward layer, normalisation, and the block itself."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fmcourse.attention import MultiHeadAttention, Rotate
from fmcourse.cache import LayerCache
from fmcourse.checks import check_choice
from fmcourse.config import Activation, TransformerConfig


def activate(x: Tensor, name: Activation) -> Tensor:
    """Apply a nonlinearity by name ("swiglu" halves the last axis).

    Taught in `mathematics/mlp_and_residual_stream`.
    """
    match name:
        case "relu":
            return F.relu(x)
        case "relu2":  # So et al. 2021 (Primer)
            x = F.relu(x)
            return x * x  # faster backward than square(), which goes through pow
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":  # the approximation that GPT-2 was trained with
            return F.gelu(x, approximate="tanh")
        case "swiglu":  # Shazeer 2020
            gate, up = x.chunk(2, dim=-1)
            return F.silu(gate) * up


class FeedForward(nn.Module):
    """Two linear layers around a nonlinearity, applied at every position alike.

    Taught in `mathematics/mlp_and_residual_stream`. Source: Vaswani et al. 2017, eq. 2.
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: Activation = "gelu_tanh", bias: bool = True) -> None:
        super().__init__()
        check_choice("activation", activation, Activation)
        self.activation: Activation = activation
        self.up = nn.Linear(d_model, 2 * d_ff if activation == "swiglu" else d_ff, bias=bias)
        self.down = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "b t m"]) -> Float[Tensor, "b t m"]:
        """Transform every position on its own."""
        return self.down(activate(self.up(x), self.activation))


def make_norm(config: TransformerConfig) -> nn.Module:
    """The normalisation layer, over d_model, that the configuration names.

    Taught in `mathematics/mlp_and_residual_stream`.
    """
    if config.norm == "rms":
        return nn.RMSNorm(config.d_model, eps=config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)


class TransformerBlock(nn.Module):
    """Self-attention, then (in a decoder with an encoder) cross-attention, then feed-forward, each added to the stream.

    With `norm_first` the residual stream is never normalised, only what each sublayer reads (GPT-2, Llama); without it
    the sum is (Vaswani et al. 2017, BERT). Taught in `mathematics/mlp_and_residual_stream`.
    """

    def __init__(self, config: TransformerConfig, *, cross_attention: bool = False) -> None:
        super().__init__()
        self.norm_first, self.dropout = config.norm_first, config.dropout
        attention = partial(
            MultiHeadAttention,
            config.d_model,
            config.n_heads,
            n_kv_heads=config.n_kv_heads,
            bias=config.bias,
            qk_norm=config.qk_norm,
            dropout=config.dropout,
        )
        self.attention, self.attention_norm = attention(), make_norm(config)
        self.cross_attention = attention() if cross_attention else None
        self.cross_attention_norm = make_norm(config) if cross_attention else None
        self.feed_forward = FeedForward(config.d_model, config.d_hidden, activation=config.activation, bias=config.bias)
        self.feed_forward_norm = make_norm(config)

    def forward(
        self,
        x: Float[Tensor, "b t m"],
        memory: Float[Tensor, "b s m"] | None = None,
        *,
        may_attend: Tensor | None = None,
        causal: bool = False,
        rotate: Rotate | None = None,
        score_bias: Tensor | None = None,
        memory_may_attend: Tensor | None = None,
        cache: tuple[LayerCache, LayerCache] | None = None,
    ) -> Float[Tensor, "b t m"]:
        """Arguments as in `MultiHeadAttention.forward`; `cache` holds one cache for each attention of the block."""
        own, other = cache if cache is not None else (None, None)

        def attend(y: Tensor) -> Tensor:
            return self.attention(
                y, may_attend=may_attend, causal=causal, rotate=rotate, score_bias=score_bias, cache=own
            )

        x = self.add(x, attend, self.attention_norm)
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            if memory is None:
                raise ValueError("this block has cross-attention and needs `memory`, the encoder's output; got None")
            read = partial(self.cross_attention, memory=memory, may_attend=memory_may_attend, cache=other)
            x = self.add(x, read, self.cross_attention_norm)
        return self.add(x, self.feed_forward, self.feed_forward_norm)

    def add(self, x: Tensor, sublayer: Callable[[Tensor], Tensor], norm: nn.Module) -> Tensor:
        """Add what the sublayer says to the residual stream, normalised before or after."""
        said = sublayer(norm(x) if self.norm_first else x)
        total = x + (F.dropout(said, self.dropout) if self.training else said)
        return total if self.norm_first else norm(total)
