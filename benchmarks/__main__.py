"""Every speed question of the README: `make bench`, or `python -m benchmarks generation_speed` for one of them."""

import sys
from importlib import import_module

from transformers.utils import logging

from benchmarks.common import Row, environment

QUESTIONS = (
    "start_and_build", "generation_speed", "training_step", "translation_speed", "two_processes", "time_to_loss"
)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| question | fmcourse | peer | ratio | target |", "|---|---|---|---|---|"]
    lines += [f"| {r.question} | {r.ours} | {r.peer} | {r.ratio:.2f} | {r.target} |" for r in rows]
    return "\n".join(lines)


def main(names: list[str]) -> None:
    """Measure and print."""
    logging.set_verbosity_error()
    unknown = sorted(set(names) - set(QUESTIONS))
    if unknown:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    found = environment("transformers", "numpy")
    print("measured on: " + ", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    rows: list[Row] = []
    for name in names or QUESTIONS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += import_module(f"benchmarks.{name}").measure()
    print(table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
