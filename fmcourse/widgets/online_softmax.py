"""Online softmax, one tile at a time: the running maximum, sum and output, and when they are rescaled."""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget


class OnlineSoftmax(Widget):
    """A stepper through one row of scores: each step merges a tile into the triple (m, l, o).

    Args:
        presets: rows to choose from, each {"name": ..., "scores": [...]}, all of one length.
        values: one number for each score; the output is their mean under the softmax of the scores.

    Raises ValueError when the lengths differ. Taught in `mathematics/backpropagation_through_attention`.
    """

    _module = "online_softmax"

    label = traitlets.Unicode("Online softmax: one row of scores, a tile at a time").tag(sync=True)
    labels = traitlets.Dict(
        {
            "preset": "Scores",
            "tile": "Scores in a tile",
            "next": "Next tile",
            "back": "Back",
            "restart": "Start again",
            "score": "score",
            "value": "value",
            "row": "Scores (above) and values (below)",
            "seen": "merged",
            "current": "this tile",
            "waiting": "not seen yet",
            "steps": "The running triple after each tile",
            "number": "tile",
            "top": "its max",
            "m": "m",
            "factor": "old ×",
            "l": "ℓ",
            "o": "o",
            "result": "o/ℓ",
            "start": "Nothing merged yet",
            "rescaled": "Tiles that rescaled the old sums",
            "naive": "plain sum of eˢ",
            "exact": "Softmax of the whole row at once",
            "difference": "difference",
            "infinite": "infinite",
        }
    ).tag(sync=True)
    presets = traitlets.List(traitlets.Dict()).tag(sync=True)
    values = traitlets.List(traitlets.Float()).tag(sync=True)
    preset = traitlets.Int(0).tag(sync=True)
    tile = traitlets.Int(2).tag(sync=True)
    step = traitlets.Int(0, help="How many tiles have been merged.").tag(sync=True)

    def __init__(self, *, presets: Sequence[Mapping[str, Any]], values: Sequence[float], **kwargs: Any) -> None:
        lengths = [len(preset["scores"]) for preset in presets]
        if not lengths or set(lengths) != {len(values)}:
            raise ValueError(f"each preset needs one score for each of the {len(values)} values; got {lengths}")
        given = [{"name": preset["name"], "scores": [float(s) for s in preset["scores"]]} for preset in presets]
        super().__init__(presets=given, values=list(values), **kwargs)

    @traitlets.validate("tile")
    def _check_tile(self, proposal: Mapping[str, Any]) -> int:
        if proposal["value"] < 1:
            raise traitlets.TraitError(f"tile must be 1 or more; got {proposal['value']}")
        return int(proposal["value"])
