"""Attention: every position asks a question (query) and mixes the answers (values) of the positions whose keys match.

Shapes, here and in the whole project: b batch, t query position, s key position, h heads, d head width, m model width
(d_model), v vocabulary. A mask is always positive: True means "this query may attend to this key".
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fmcourse.cache import LayerCache
from fmcourse.masks import check_may_attend

Rotate = Callable[[Tensor], Tensor]


def scaled_dot_product_attention(
    query: Float[Tensor, "*b t d"],
    key: Float[Tensor, "*b s d"],
    value: Float[Tensor, "*b s e"],
    may_attend: Bool[Tensor, "*#b t s"] | None = None,
) -> tuple[Float[Tensor, "*b t e"], Float[Tensor, "*b t s"]]:
    """Mix the values, each query weighting them by its similarity to the keys; also return the weights.

    Written out for reading; `MultiHeadAttention` computes the same with torch's fused kernel.

    Raises:
        ValueError: query and key differ in width, key and value in length, or a query may attend to nothing.

    Taught in `mathematics/attention`. Source: Vaswani et al. 2017, eq. 1.
    """
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query and key must have the same width; got {query.shape[-1]} and {key.shape[-1]}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"key and value must have the same length; got {key.shape[-2]} and {value.shape[-2]}")
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if may_attend is not None:
        check_may_attend(may_attend, tuple(scores.shape))
        scores = scores.masked_fill(~may_attend, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ value, weights


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, dropout: float
) -> Float[Tensor, "b h t e"]:
    """torch's fused kernel; on a CPU in float32 even under autocast, where its bfloat16 backward pass is slow.

    Taught in `mathematics/attention`.
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            mask = mask.float() if mask is not None and mask.is_floating_point() else mask
            return F.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), attn_mask=mask, is_causal=causal, dropout_p=dropout
            )
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, dropout_p=dropout)


class MultiHeadAttention(nn.Module):
    """Attention in `n_heads` subspaces at once, their outputs concatenated and projected back to d_model.

    Args:
        n_kv_heads: heads of keys and values; each serves n_heads / n_kv_heads query heads (grouped-query attention).
        qk_norm: RMS-normalise every query and key (Henry et al. 2020).

    Taught in `mathematics/multi_head_and_masks`. Source: Vaswani et al. 2017, section 3.2.2; Ainslie et al. 2023.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        bias: bool = True,
        qk_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"n_heads={n_heads} must divide d_model={d_model}")
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads or n_heads
        if n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads={n_kv_heads} must divide n_heads={n_heads}")
        self.d_head, self.qk_norm, self.dropout = d_model // n_heads, qk_norm, dropout
        d_kv = self.n_kv_heads * self.d_head
        self.query = nn.Linear(d_model, d_model, bias=bias)
        self.key = nn.Linear(d_model, d_kv, bias=bias)
        self.value = nn.Linear(d_model, d_kv, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)

    def heads(
        self,
        x: Float[Tensor, "b t m"],
        memory: Float[Tensor, "b s m"] | None = None,
        rotate: Rotate | None = None,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b k s d"], Float[Tensor, "b k s d"]]:
        """Project to queries (from `x`), keys and values (from `memory`, or `x` itself), split into heads."""
        split = partial(rearrange, pattern="b t (h d) -> b h t d", d=self.d_head)
        if cache is not None and memory is None:
            joined = split(cache.project(x, self.query, self.key, self.value))
            query, key, value = joined.tensor_split((self.n_heads, self.n_heads + self.n_kv_heads), dim=1)
        else:
            source = x if memory is None else memory
            query, key, value = split(self.query(x)), split(self.key(source)), split(self.value(source))
        if self.qk_norm:
            query, key = F.rms_norm(query, (self.d_head,)), F.rms_norm(key, (self.d_head,))
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        return query, key, value

    def forward(
        self,
        x: Float[Tensor, "b t m"],
        memory: Float[Tensor, "b s m"] | None = None,
        *,
        may_attend: Bool[Tensor, "#b #h t s"] | None = None,
        causal: bool = False,
        rotate: Rotate | None = None,
        score_bias: Float[Tensor, "#b h t s"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t m"]:
        """Let every position of `x` attend to `memory` (to `x` itself when None).

        Args:
            may_attend: which query may see which key.
            causal: position i sees positions 0..i only; for t = s, without `may_attend` (the fused kernel's fast path).
            rotate: applied to queries and keys (rotary positions).
            score_bias: added to the scores (ALiBi).
            cache: self-attention appends its keys and values and attends to all stored ones; cross-attention fills
                it on the first call and reads the memory from it afterwards.
        """
        if cache is not None and memory is not None and cache.length:
            query = rearrange(self.query(x), "b t (h d) -> b h t d", d=self.d_head)
            query = F.rms_norm(query, (self.d_head,)) if self.qk_norm else query
            key, value = cache.stored()
        else:
            query, key, value = self.heads(x, memory, rotate, cache)
            if cache is not None:
                key, value = cache.append(key, value)
        if self.n_kv_heads != self.n_heads:
            pattern, group = "b k s d -> b (k g) s d", self.n_heads // self.n_kv_heads
            key, value = repeat(key, pattern, g=group), repeat(value, pattern, g=group)
        if causal and (may_attend is not None or score_bias is not None or query.shape[2] != key.shape[2]):
            raise ValueError(
                f"causal=True is for t = s without mask or bias; got t={query.shape[2]}, s={key.shape[2]}; "
                "make may_attend with fmcourse.masks.causal_mask"
            )
        mask: Tensor | None = may_attend
        if may_attend is not None:
            check_may_attend(may_attend, (*query.shape[:3], key.shape[2]))
        if score_bias is not None:
            mask = score_bias.to(query.dtype)
            mask = mask if may_attend is None else mask.masked_fill(~may_attend, float("-inf"))
        mixed = fused_attention(query, key, value, mask, causal, self.dropout if self.training else 0.0)
        return self.out(rearrange(mixed, "b h t d -> b t (h d)"))
