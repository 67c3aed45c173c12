"""The rotary explorer: a query and a key on dials that turn with their positions, and the score of every distance."""

from typing import Any

import traitlets

from fmcourse.widgets.base import Widget

SPANS = (32, 128, 512)


class RotaryExplorer(Widget):
    """Queries and keys turned as `fmcourse.positions.Rotary` turns them, one dial for each pair of coordinates.

    Args:
        names: what each query with its key is called.
        query_vectors, key_vectors: the vectors before they are turned, one row for each name; pairs are (i, i + d/2).
        vectors: which of them is shown first.
        m, n: positions of the query and of the key, 0 to 512.
        base: of the wavelengths.
        span: greatest distance that the curve shows, 32, 128 or 512.

    Taught in `mathematics/positions`.
    """

    _module = "rotary_explorer"

    label = traitlets.Unicode("Rotary explorer: two vectors that turn with their positions").tag(sync=True)
    labels = traitlets.Dict(
        {
            "vectors": "Query and key",
            "m": "Position of the query",
            "n": "Position of the key",
            "base": "Base of the wavelengths",
            "span": "Distances shown, up to",
            "on": "Move both on by 16",
            "back": "Move both back by 16",
            "query": "query",
            "key": "key",
            "pair": "pair",
            "wavelength": "tokens a turn",
            "between": "between them",
            "score": "score",
            "distance": "distance, query minus key",
            "axis": "distance (tokens)",
            "most": "most it could be",
            "slowest": "slowest pair: turns in 512 tokens",
            "table": "Scores as a table",
        }
    ).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    query_vectors = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    key_vectors = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    vectors = traitlets.Int(0).tag(sync=True)
    m = traitlets.Int(12, min=0, max=512).tag(sync=True)
    n = traitlets.Int(9, min=0, max=512).tag(sync=True)
    base = traitlets.Float(10_000.0, min=1.0).tag(sync=True)
    span = traitlets.Enum(SPANS, default_value=32).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        rows = [*self.query_vectors, *self.key_vectors]
        if not self.names or not len(self.names) == len(self.query_vectors) == len(self.key_vectors):
            raise ValueError(
                "RotaryExplorer needs names and as many queries and keys; "
                f"got {len(self.names)}, {len(self.query_vectors)} and {len(self.key_vectors)}"
            )
        if len({len(row) for row in rows}) != 1 or len(rows[0]) % 2 or not rows[0]:
            raise ValueError(f"all vectors need one even width; got {sorted({len(row) for row in rows})}")
        if not 0 <= self.vectors < len(self.names):
            raise ValueError(f"vectors={self.vectors} is out of range; 0 to {len(self.names) - 1} are allowed")
