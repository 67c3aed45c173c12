"""The numbers that a model starts from. Taught in `mathematics/mlp_and_residual_stream`."""

import math

from torch import nn

from fmcourse.config import TransformerConfig
from fmcourse.layers import TransformerBlock


def initialise(model: nn.Module, config: TransformerConfig) -> None:
    """Draw the weights as `config.init` says, from torch's generator. Source: Radford et al. 2019, section 2.3."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for block in (m for m in model.modules() if isinstance(m, TransformerBlock)):
        outs = [block.attention.out, block.feed_forward.down]
        outs += [block.cross_attention.out] if block.cross_attention is not None else []
        for out in outs:  # they write to the residual stream, which sums 2 n_layers of them
            nn.init.normal_(out.weight, std=0.0 if config.init == "zero_out" else 0.02 / math.sqrt(2 * config.n_layers))
