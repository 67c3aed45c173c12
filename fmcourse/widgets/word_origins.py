"""Who wrote this word? Each token of a headline, with what was written, what was copied, and from where."""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget

_PARTS = {"text", "written", "copied", "looks", "new"}


class WordOrigins(Widget):
    """A text and its headline, token by token: choose one to see where it came from.

    Args:
        items: of each text its tokens (`source`, as text) and its `headlines`, by who wrote them. A headline is a list
            of tokens with `text`, the two parts of its probability (`written` and `copied`), where the pointer looked
            (`looks`: pairs of a place in the source and a weight), and whether its word is `new`, that is, not in the
            text.
        writer: whose headline is shown first.

    Raises TraitError when there is no text, a token lacks something, or it looks outside of the text. Taught in
    `practice/train_summarisation`. Source: See et al. 2017, section 2.2.
    """

    _module = "word_origins"

    label = traitlets.Unicode("Who wrote this word? A headline, token by token").tag(sync=True)
    labels = traitlets.Dict(
        {
            "text": "Text",
            "writer": "Headline by",
            "choose": "Choose a token of the headline; a broken line below it: its word is not in the text.",
            "probability": "probability",
            "written": "written",
            "copied": "copied",
            "share": "copied share",
            "source": "The text; the darker, the more the pointer looked there",
            "looks": "Where the pointer looked",
            "place": "place",
            "token": "token",
            "weight": "weight",
            "every": "Every token of this headline",
            "in_text": "word in the text",
            "yes": "yes",
            "no": "no",
            "end": "(end)",
        }
    ).tag(sync=True)
    items: traitlets.List[Any] = traitlets.List(traitlets.Dict()).tag(sync=True)
    item = traitlets.Int(0).tag(sync=True)
    writer = traitlets.Unicode().tag(sync=True)
    token = traitlets.Int(0).tag(sync=True)

    def __init__(self, items: Sequence[Mapping[str, Any]], **kwargs: Any) -> None:
        if not items:
            raise traitlets.TraitError("items is empty; give at least one text")
        writers = list(items[0]["headlines"])
        for i, one in enumerate(items):
            if list(one["headlines"]) != writers:
                raise traitlets.TraitError(f"text {i} has headlines by {list(one['headlines'])}; wanted {writers}")
            for token in (token for headline in one["headlines"].values() for token in headline):
                if missing := sorted(_PARTS - set(token)):
                    raise traitlets.TraitError(f"a token of text {i} lacks {missing}")
                if any(not 0 <= place < len(one["source"]) for place, _ in token["looks"]):
                    raise traitlets.TraitError(f"a token of text {i} looks outside of its {len(one['source'])} tokens")
        super().__init__(items=[dict(one) for one in items], **{"writer": writers[0], **kwargs})

    def share(self, item: int, writer: str, token: int) -> float:
        """What the page shows as the copied share of that token."""
        one = self.items[item]["headlines"][writer][token]
        return float(one["copied"] / (one["written"] + one["copied"]))
