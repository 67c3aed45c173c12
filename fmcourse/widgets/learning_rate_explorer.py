"""Learning-rate explorer: the stored runs of a sweep, by optimiser, schedule and rate."""

from collections.abc import Mapping
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget


def runs_of(table: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of the table `optimizers` as the figure wants them: by optimiser, then by schedule.

    Each holds its `rates`, and for each rate the final `test` loss and the training `curve` of every seed; None stands
    for a run that came to no number. Used in `algorithm/training`.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in table["rows"]:
        one = found.setdefault(row["optimizer"], {}).setdefault(row["schedule"], {"rates": [], "test": [], "curve": []})
        one["rates"].append(row["rate"])
        one["test"].append(row["test"])
        one["curve"].append(row["curve"])
    return found


class LearningRateExplorer(Widget):
    """Slide the learning rate of a stored sweep: the curve of that run, and the final loss over all rates.

    Raises TraitError for an optimiser or a schedule that the runs do not have. Taught in `algorithm/training`.
    """

    _module = "learning_rate_explorer"

    label = traitlets.Unicode("Learning-rate explorer: training curves and final losses of a sweep").tag(sync=True)
    labels = traitlets.Dict(
        {
            "optimizer": "Optimiser",
            "schedule": "Schedule",
            "rate": "Learning rate",
            "step": "step",
            "train": "training loss (nats)",
            "final": "test loss at the end (nats)",
            "curves": "Training",
            "valley": "All rates",
            "mean": "test loss, mean",
            "lowest": "lowest seed",
            "highest": "highest seed",
            "seeds": "seeds",
            "best": "lowest of all rates",
            "above": "above it by",
            "diverged": "no number any more",
            "useless": "worse than counting letters",
            "reference": "counting letters",
            "table": "All rates as a table",
        }
    ).tag(sync=True)
    runs = traitlets.Dict(help="What `runs_of` returns.").tag(sync=True)
    window = traitlets.Int(1, help="Steps that one point of a curve is the mean of.").tag(sync=True)
    reference = traitlets.Float(0.0, help="A loss to compare with, drawn as a line.").tag(sync=True)
    optimizer = traitlets.Unicode().tag(sync=True)
    schedule = traitlets.Unicode().tag(sync=True)
    place = traitlets.Int(0, help="Which of the rates, counted from 0.").tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        runs = kwargs.get("runs") or {}
        kwargs.setdefault("optimizer", next(iter(runs), ""))
        kwargs.setdefault("schedule", next(iter(next(iter(runs.values()), {})), ""))
        super().__init__(**kwargs)

    @traitlets.validate("optimizer", "schedule")
    def _check_choice(self, proposal: Mapping[str, Any]) -> str:
        name, value = proposal["trait"].name, str(proposal["value"])
        known = list(self.runs) if name == "optimizer" else list(next(iter(self.runs.values()), {}))
        if value not in known:
            raise traitlets.TraitError(f"{name}={value!r} must be one of {', '.join(known)}")
        return value
