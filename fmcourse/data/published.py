"""Sizes of published models over time: a committed table in which each count stands in the source that it names.

Taught in `concepts/what_is_a_foundation_model`.
"""

import csv
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from fmcourse.checks import check_choice

Modality = Literal["text", "image", "speech", "image and text", "protein"]
Architecture = Literal["convolutional", "recurrent", "encoder", "decoder", "encoder-decoder"]

TABLE = Path(__file__).with_name("published_models.csv")


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """One model, as its authors described it.

    Args:
        released: first day of the month in which the source first appeared.
        parameters: how many the source states; None when its authors chose not to say.
        active_parameters: of a sparse model, how many each token uses, where the source states it.
        sparse: whether a token uses only some of the parameters (mixture of experts).
        citation: BibTeX key; `source` says the same in words, `where` the place in it where the number stands.
        tokens: how many the model was trained on, repeats counted, where somebody states it; None elsewhere.
        tokens_where: the place in the source where that stands, or another source that says it.

    Raises ValueError for an unknown modality or architecture, and for counts that cannot be.
    """

    name: str
    released: date
    parameters: int | None
    active_parameters: int | None
    sparse: bool
    modality: Modality
    architecture: Architecture
    citation: str
    source: str
    where: str
    tokens: int | None = None
    tokens_where: str = ""

    def __post_init__(self) -> None:
        check_choice("modality", self.modality, get_args(Modality))
        check_choice("architecture", self.architecture, get_args(Architecture))
        if self.parameters is not None and self.parameters <= 0:
            raise ValueError(f"parameters={self.parameters} of {self.name} must be positive, or None if not published")
        if self.active_parameters is not None and not (
            self.sparse and 0 < self.active_parameters < (self.parameters or 0)
        ):
            raise ValueError(
                f"active_parameters={self.active_parameters} of {self.name}: only a sparse model has them, "
                f"and fewer than its parameters={self.parameters}"
            )
        if (self.tokens is None) == bool(self.tokens_where):
            raise ValueError(f"tokens={self.tokens} of {self.name} need tokens_where, and only they; say where it is")

    @property
    def year(self) -> float:
        """The middle of that month as a number, for axes and fits: March 2023 is 2023.21."""
        return self.released.year + (self.released.month - 0.5) / 12


def _count(text: str) -> int | None:
    return int(text) if text else None


@cache
def published_models() -> tuple[PublishedModel, ...]:
    """Every model of the table, oldest first.

    The choice is ours and is not a sample: well-known models whose size can be read in a publication, among them the
    largest of their time. Taught in `concepts/what_is_a_foundation_model`.
    """
    with TABLE.open(encoding="utf-8", newline="") as lines:
        models = [
            PublishedModel(
                name=row["name"],
                released=date.fromisoformat(row["date"] + "-01"),
                parameters=_count(row["parameters"]),
                active_parameters=_count(row["active_parameters"]),
                sparse=row["sparse"] == "yes",
                modality=row["modality"],  # type: ignore[arg-type]  # checked by PublishedModel
                architecture=row["architecture"],  # type: ignore[arg-type]
                citation=row["citation"],
                source=row["source"],
                where=row["where"],
                tokens=_count(row["tokens"]),
                tokens_where=row["tokens_where"],
            )
            for row in csv.DictReader(lines)
        ]
    return tuple(sorted(models, key=lambda model: model.released))
