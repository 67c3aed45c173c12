"""Which way to adapt a pretrained model? Labels needed for a wanted accuracy, and what each way costs to keep."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget


def labels_needed(labels: Sequence[float], accuracy: Sequence[float], target: float) -> float | None:
    """Fewest labels at which the curve reaches `target`; straight lines between points, over the logarithm of labels.

    None when no point reaches it. Used in `concepts/pretraining_and_finetuning`.
    """
    if accuracy[0] >= target:
        return labels[0]
    for i in range(1, len(labels)):
        low, high = accuracy[i - 1], accuracy[i]
        if high >= target:
            part = (target - low) / (high - low)
            return math.exp((1 - part) * math.log(labels[i - 1]) + part * math.log(labels[i]))
    return None


class AdaptationChooser(Widget):
    """Measured curves of accuracy over labels for several methods, with the labels needed for a wanted accuracy.

    Args:
        points: the numbers of labels at which the curves were measured.
        methods: of each its name, its mean, lowest and highest accuracy at these points, how many numbers it trains,
            and how many have to be stored for each task; `shared` numbers are stored once for all tasks.

    Raises TraitError when a curve has not one value for each of `points`. Taught in
    `concepts/pretraining_and_finetuning`.
    """

    _module = "adaptation_chooser"

    label = traitlets.Unicode("Adaptation chooser: labels and storage that each way of adapting needs").tag(sync=True)
    labels = traitlets.Dict(
        {
            "target": "Wanted accuracy",
            "tasks": "Tasks to serve",
            "accuracy": "accuracy on other films",
            "axis": "labelled reviews (logarithmic)",
            "method": "method",
            "needed": "labels needed",
            "never": "not reached",
            "at_once": "at most",
            "trained": "numbers trained",
            "stored": "stored for all tasks",
            "megabytes": "MB",
            "curves": "The curves as a table: mean, lowest to highest",
        }
    ).tag(sync=True)
    points = traitlets.List(traitlets.Int()).tag(sync=True)
    methods = traitlets.List(traitlets.Dict()).tag(sync=True)
    target = traitlets.Float(0.7).tag(sync=True)
    tasks = traitlets.Int(1).tag(sync=True)

    @traitlets.validate("methods")
    def _check_methods(self, proposal: Mapping[str, Any]) -> list[dict[str, Any]]:
        for one in proposal["value"]:
            for part in ("mean", "low", "high"):
                if len(one[part]) != len(self.points):
                    raise traitlets.TraitError(
                        f"{one['name']}: {part} has {len(one[part])} values; points has {len(self.points)}"
                    )
        return list(proposal["value"])
