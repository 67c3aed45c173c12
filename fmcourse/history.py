"""The table of a training run: one row an evaluation; shows and plots itself. Taught in `practice/train_gpt`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass
class History:
    """Rows of step, train_loss and val_loss (nats per token), learning_rate, tokens_per_second, seconds of training."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def column(self, name: str) -> list[float]:
        """One column. Raises KeyError, naming the columns there are, for any other."""
        if self.rows and name not in self.rows[0]:
            raise KeyError(f"no column {name!r}; there are {', '.join(self.rows[0])}")
        return [row[name] for row in self.rows]

    @property
    def best(self) -> float:
        """The lowest validation loss. Raises ValueError when nothing was evaluated yet."""
        if not self.rows:
            raise ValueError("the history is empty: nothing was evaluated yet")
        return min(self.column("val_loss"))

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "(empty history)"
        names = list(self.rows[0])
        # From 1000 on whole numbers: no reader wants 2.159e+04 tokens per second.
        form = {True: ",.0f", False: ".4g"}
        cells = [[f"{row[n]:{form[n == 'step' or abs(row[n]) >= 1000]}}" for n in names] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in [names, *cells])

    def _repr_html_(self) -> str:
        if not self.rows:
            return str(self)
        lines = [line.split() for line in str(self).splitlines()]
        head = "".join(f'<th scope="col">{name}</th>' for name in lines[0])
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines[1:])
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw training and validation loss against the step."""
        from fmcourse.plotting import figure

        ax = figure()[1] if ax is None else ax
        for name in ("train_loss", "val_loss"):
            ax.plot(self.column("step"), self.column(name), marker="o", label=name.replace("_", " "))
        ax.set(xlabel="step", ylabel="loss (nats per token)")
        ax.legend()
        return ax
