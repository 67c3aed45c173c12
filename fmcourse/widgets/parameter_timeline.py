"""Parameter counts of published models over time, with the growth of those that are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.data.published import PublishedModel
from fmcourse.widgets.base import Widget


class ParameterTimeline(Widget):
    """Each model a mark (year against parameters), to be filtered, compared on two axes, and looked up one by one.

    The growth is the slope of a least-squares line through the logarithms of the shown counts, as a factor per year.

    Args:
        models: what to show; a model without a count stands below the axis and enters no fit.
        selected: name of the model whose facts are shown.

    Raises TraitError when `selected` is not among the models. Taught in `concepts/what_is_a_foundation_model`.
    """

    _module = "parameter_timeline"

    label = traitlets.Unicode("Parameter counts of published models over time").tag(sync=True)
    labels = traitlets.Dict(
        {
            "model": "Model",
            "modality": "Trained on",
            "architecture": "Architecture",
            "period": "Years",
            "records": "Only records (largest so far)",
            "dense": "Only dense models",
            "logarithmic": "Logarithmic axis",
            "all": "all",
            "year": "year",
            "parameters": "parameters",
            "active": "active for each token",
            "sparse": "sparse (hollow mark)",
            "unpublished": "size not published",
            "source": "source",
            "released": "first published",
            "shown": "Models with a count",
            "growth": "fitted growth per year",
            "few": "too few for a fit",
            "table": "The shown models as a table",
            "text": "text",
            "image": "images",
            "speech": "speech",
            "image and text": "images and text",
            "protein": "proteins",
            "convolutional": "convolutional",
            "recurrent": "recurrent",
            "encoder": "Transformer encoder",
            "decoder": "Transformer decoder",
            "encoder-decoder": "Transformer encoder-decoder",
        }
    ).tag(sync=True)
    models = traitlets.List(traitlets.Dict()).tag(sync=True)
    selected = traitlets.Unicode().tag(sync=True)
    modality = traitlets.Unicode("all").tag(sync=True)
    architecture = traitlets.Unicode("all").tag(sync=True)
    periods = traitlets.List(traitlets.List(traitlets.Int()), [[2012, 2016], [2017, 2022], [2023, 2025]]).tag(sync=True)
    period = traitlets.Int(0, help="0 shows every year, i the i-th of `periods`.").tag(sync=True)
    records = traitlets.Bool(False).tag(sync=True)
    dense = traitlets.Bool(False).tag(sync=True)
    logarithmic = traitlets.Bool(True).tag(sync=True)

    def __init__(self, models: Sequence[PublishedModel], *, selected: str = "GPT-3", **kwargs: Any) -> None:
        rows = [
            {
                "name": model.name,
                "year": model.year,
                "released": model.released.strftime("%Y-%m"),
                "parameters": model.parameters,
                "active": model.active_parameters,
                "sparse": model.sparse,
                "modality": model.modality,
                "architecture": model.architecture,
                "source": f"{model.source}, {model.where}",
            }
            for model in models
        ]
        super().__init__(models=rows, selected=selected, **kwargs)

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Mapping[str, Any]) -> str:
        names = [row["name"] for row in self.models]
        if names and proposal["value"] not in names:
            raise traitlets.TraitError(f"selected={proposal['value']!r} is not among the models: {', '.join(names)}")
        return str(proposal["value"])
