"""The distribution of the next token, and what temperature, top-k and top-p make of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget


class SamplingExplorer(Widget):
    """Bars of the likeliest next tokens, cut and reshaped by the three controls of `next_token_probabilities`.

    Args:
        tokens: how each token id is shown (a space or a line break by a visible sign).
        prompts: texts that were given to the model.
        logits: one row for each prompt, one number for each token.

    Raises TraitError when the sizes do not fit. Taught in `practice/train_gpt`.
    """

    _module = "sampling_explorer"

    label = traitlets.Unicode("Sampling explorer: the distribution of the next character").tag(sync=True)
    labels = traitlets.Dict(
        {
            "prompt": "Text so far",
            "temperature": "Temperature",
            "top_k": "Top-k: keep the k likeliest",
            "top_p": "Top-p: keep this much probability",
            "all": "all",
            "token": "next character",
            "probability": "probability",
            "model": "model's own",
            "kept": "tokens kept",
            "entropy": "entropy (bits)",
            "dropped": "model's probability cut away",
            "draw": "Draw 30 characters",
            "drawn": "Thirty draws for this one place",
            "table": "The distribution as a table",
        }
    ).tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    prompts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    logits = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    prompt = traitlets.Int(0).tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    top_k = traitlets.Int(0, help="0 keeps every token.").tag(sync=True)
    top_p = traitlets.Float(1.0).tag(sync=True)

    def __init__(
        self, *, tokens: Sequence[str], prompts: Sequence[str], logits: Sequence[Sequence[float]], **kwargs: Any
    ) -> None:
        if len(logits) != len(prompts) or any(len(row) != len(tokens) for row in logits):
            raise ValueError(
                f"logits must have one row for each of the {len(prompts)} prompts and one number for each of the "
                f"{len(tokens)} tokens; got rows of lengths {[len(row) for row in logits]}"
            )
        super().__init__(tokens=list(tokens), prompts=list(prompts), logits=[list(row) for row in logits], **kwargs)

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Mapping[str, Any]) -> float:
        if proposal["value"] < 0:
            raise traitlets.TraitError(f"temperature must be 0 or more; got {proposal['value']}")
        return float(proposal["value"])
