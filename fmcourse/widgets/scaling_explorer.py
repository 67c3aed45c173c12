"""The best size for a budget of compute, by a fitted scaling law, and what serving the model later changes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget

# Multiples of the compute-optimal training tokens that the model reads or writes after training.
SERVED = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
Law = Mapping[str, float]  # E, A, B, alpha, beta and gamma (1 when left out)


def law_loss(law: Law, parameters: float, tokens: float) -> float:
    """The loss of a model of that size after so many tokens: E + (A / N^alpha + B / D^beta)^gamma.

    Taught in `practice/scaling_laws`. Source: Hoffmann et al. 2022, equation 2, whose gamma is 1.
    """
    lacking = law["A"] / parameters ** law["alpha"] + law["B"] / tokens ** law["beta"]
    return law["E"] + lacking ** law.get("gamma", 1.0)


def best_split(law: Law, compute: float) -> tuple[float, float]:
    """Parameters and tokens of the lowest loss when 6 N D is given.

    Taught in `practice/scaling_laws`. Source: Hoffmann et al. 2022, equation 4.
    """
    alpha, beta = law["alpha"], law["beta"]
    g = (alpha * law["A"] / (beta * law["B"])) ** (1 / (alpha + beta))
    parameters = g * (compute / 6) ** (beta / (alpha + beta))
    return parameters, compute / 6 / parameters


def tokens_for(law: Law, parameters: float, loss: float) -> float:
    """Tokens that a model of that size needs for the loss; infinite if it is too small for it.

    Taught in `practice/scaling_laws`.
    """
    rest = (loss - law["E"]) ** (1 / law.get("gamma", 1.0)) - law["A"] / parameters ** law["alpha"]
    return (law["B"] / rest) ** (1 / law["beta"]) if rest > 0 else math.inf


def best_for_life(law: Law, compute: float, served: float) -> tuple[float, float, float]:
    """Parameters, tokens and compute, 6 N D + 2 N served, of the cheapest model as good as `best_split(compute)`.

    Golden-section search over the logarithm of the size. Taught in `practice/scaling_laws`.
    Source: Sardana et al. 2024, equation 3.
    """
    most, tokens = best_split(law, compute)
    loss = law_loss(law, most, tokens)

    def cost(log_size: float) -> float:
        size = math.exp(log_size)
        return 6 * size * tokens_for(law, size, loss) + 2 * size * served

    high = math.log(most)
    excess = (loss - law["E"]) ** (1 / law.get("gamma", 1.0))
    low = math.log((law["A"] / excess) ** (1 / law["alpha"]))  # with this size, no amount of text is enough
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    size = math.exp((low + high) / 2) if served else most
    return size, tokens_for(law, size, loss) if served else tokens, cost(math.log(size)) if served else compute


class ScalingExplorer(Widget):
    """The frontier of best sizes over compute with known models as points, and the loss of all sizes at one budget.

    Args:
        laws: each with `name`, `E`, `A`, `B`, `alpha`, `beta` (and `gamma`), its range `budgets` (two powers
            of ten), a first `budget` (such a power), and `models`: name, parameters and tokens of the points to show.
        law: which of them is shown.

    Raises TraitError for a law that is not there. Taught in `practice/scaling_laws`.
    """

    _module = "scaling_explorer"

    label = traitlets.Unicode("Scaling explorer: the best size of a model for a budget of compute").tag(sync=True)
    labels = traitlets.Dict(
        {
            "law": "Fitted law",
            "budget": "Training compute",
            "served": "Tokens served after training",
            "none": "none",
            "times": "times the best D",
            "operations": "floating-point operations",
            "frontier": "best size for each budget",
            "size": "parameters N",
            "compute": "training compute C",
            "loss": "loss (nats per token)",
            "best": "Best split of the budget",
            "parameters": "parameters",
            "tokens": "tokens",
            "ratio": "tokens per parameter",
            "predicted": "predicted loss",
            "floor": "of which no budget removes",
            "life": "Cheapest model of the same loss, serving included",
            "saved": "saved over its life",
            "map": "Above: the line is the best size for each budget; dots are known models.",
            "curve": "Below: the loss of every size at this budget.",
            "table": "The known models as a table",
            "model": "Model",
        }
    ).tag(sync=True)
    laws = traitlets.List(traitlets.Dict()).tag(sync=True)
    multiples = traitlets.List(list(SERVED)).tag(sync=True)
    law = traitlets.Unicode().tag(sync=True)
    budget = traitlets.Float(23.0, help="Power of ten of the training compute.").tag(sync=True)
    served = traitlets.Float(0.0, help="Tokens served, as a multiple of the best D.").tag(sync=True)

    def __init__(self, laws: Sequence[Mapping[str, Any]], *, law: str = "", **kwargs: Any) -> None:
        rows = [dict(one) for one in laws]
        start = law or str(rows[0]["name"])
        budget = next((one["budget"] for one in rows if one["name"] == start), 23.0)
        super().__init__(laws=rows, law=start, **{"budget": budget, **kwargs})

    @traitlets.validate("law")
    def _check_law(self, proposal: Mapping[str, Any]) -> str:
        names = [one["name"] for one in self.laws]
        if names and proposal["value"] not in names:
            raise traitlets.TraitError(f"law={proposal['value']!r} is not among the laws: {', '.join(names)}")
        return str(proposal["value"])
