"""Positions: attention alone cannot tell word order, so order is added (to embeddings), rotated or biased in.

Taught in `mathematics/positions`.
"""

import math
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from fmcourse.attention import Rotate


def sinusoidal(length: int, d_model: int) -> Float[Tensor, "t m"]:
    """Table of sines (even columns) and cosines (odd columns) whose wavelengths grow from 2 pi to 10,000 * 2 pi.

    Raises ValueError when d_model is odd. Taught in `mathematics/positions`. Source: Vaswani et al. 2017, section 3.5.
    """
    if d_model % 2:
        raise ValueError(f"d_model must be even, one sine and one cosine per wavelength; got {d_model}")
    frequency = 10_000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = torch.arange(length)[:, None] * frequency
    return rearrange([angle.sin(), angle.cos()], "two t pair -> t (pair two)").to(torch.get_default_dtype())


class SinusoidalPositions(nn.Module):
    """The fixed table of `sinusoidal`, looked up like an embedding. Taught in `mathematics/positions`."""

    def __init__(self, context: int, d_model: int) -> None:
        super().__init__()
        self.table: Tensor
        self.register_buffer("table", sinusoidal(context, d_model), persistent=False)

    def forward(self, positions: Int[Tensor, "*b t"]) -> Float[Tensor, "*b t m"]:
        """Vectors to add to the token embeddings."""
        return self.table[positions]


def rotate_pairs(x: Float[Tensor, "b h t d"], *, cos: Tensor, sin: Tensor) -> Float[Tensor, "b h t d"]:
    """Rotate each pair (x_i, x_{i + d/2}) by its angle; cos and sin are (b 1 t d), sin negative in its first half."""
    partner = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cos.to(x.dtype), partner, sin.to(x.dtype))


class Rotary(nn.Module):
    """Rotary positions: queries and keys turn with their position, so scores depend on the distance alone.

    Pairs are (i, i + d/2), the layout of Llama checkpoints.

    Taught in `mathematics/positions`. Source: Su et al. 2021, eq. 34.
    """

    def __init__(self, context: int, d_head: int, base: float = 10_000.0) -> None:
        super().__init__()
        if d_head % 2:
            raise ValueError(f"d_head must be even, since coordinates turn in pairs; got {d_head}")
        # In float64, because far positions times small frequencies lose digits; then in the precision of the model.
        frequency = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
        angle = torch.arange(context)[:, None] * frequency
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = torch.cat([angle.cos()] * 2, dim=-1), torch.cat([-angle.sin(), angle.sin()], dim=-1)
        self.register_buffer("cos", cos.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("sin", sin.to(torch.get_default_dtype()), persistent=False)

    def forward(self, positions: Int[Tensor, "*b t"]) -> Rotate:
        """The rotation of those positions, to be applied to queries and keys."""
        cos, sin = (rearrange(side[positions], "... t d -> ... 1 t d") for side in (self.cos, self.sin))
        return partial(rotate_pairs, cos=cos, sin=sin)


def alibi_slopes(n_heads: int) -> Float[Tensor, " h"]:
    """How fast each head's attention fades with distance: a geometric sequence.

    Taught in `mathematics/positions`. Source: Press et al. 2022, section 3, with their rule for other n_heads than
    powers of 2.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(n_heads - power)]
    return torch.tensor(slopes)


def alibi_bias(
    slopes: Float[Tensor, " h"], query_positions: Int[Tensor, "*b t"], key_positions: Int[Tensor, "*b s"]
) -> Float[Tensor, "*b h t s"]:
    """Penalty added to the scores: minus slope times distance.

    Taught in `mathematics/positions`. Source: Press et al. 2022, section 3.
    """
    distance = (query_positions[..., :, None] - key_positions[..., None, :]).abs()
    return -slopes[:, None, None] * distance[..., None, :, :]
