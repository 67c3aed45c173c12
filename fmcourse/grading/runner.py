"""The UNTRUSTED side, which runs inside the sandbox: run the cells, answer the calls, write the answers to a pipe.

Everything here can be tampered with by the code that it runs. It needs not be trusted: only bytes leave, and the judge
compares them with results that never were in the sandbox.

Used in the grading of exercises.
"""

import builtins
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch

from fmcourse.grading.wire import WireError, pack, unpack


class TookTooLong(BaseException):
    """Not an Exception, so that `except Exception` in a cell does not swallow it."""


def _ring(*_: object) -> None:
    raise TookTooLong


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong after so many seconds, and again and again, should it be caught."""
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Anything:
    """What `get_ipython()` gives here: every magic does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def run_cells(cells: list[str], seconds: float) -> tuple[dict[str, Any], list[str]]:
    """Run every cell in one namespace, each for at most `seconds`; returns the namespace and what went wrong."""
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "get_ipython": _Anything}
    troubles = []
    for number, source in enumerate(cells, start=1):
        try:
            with limit(seconds):
                exec(compile(source, f"<cell {number}>", "exec"), scope)
        except TookTooLong:
            troubles.append(f"cell {number} ran longer than {seconds:g} seconds")
        except BaseException as error:
            troubles.append(f"cell {number}: {type(error).__name__}: {error}"[:300])
    return scope, troubles


def answers(scope: dict[str, Any], name: str, calls: list[list[Any]] | None, seconds: float) -> dict[str, Any]:
    """What the answer called `name` gives to each call, or what went wrong."""
    if name not in scope:
        return {"trouble": f"{name} is not there"}
    try:
        with limit(seconds):
            found = [scope[name]] if calls is None else [scope[name](*args) for args in calls]
        return {"answers": found}
    except TookTooLong:
        return {"trouble": f"{name} ran longer than {seconds:g} seconds"}
    except BaseException as error:
        return {"trouble": f"{name}: {type(error).__name__}: {error}"[:300]}


def main() -> None:
    """Read the task from standard input; write a frame for every question as soon as it is answered."""
    out = os.fdopen(os.dup(1), "wb")  # what is printed goes nowhere, and does not mix with the answers
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    task = unpack(sys.stdin.buffer.read())

    def send(frame: dict[str, Any]) -> None:
        try:
            data = pack(frame)
        except WireError as error:
            data = pack({"question": frame["question"], "trouble": str(error)})
        out.write(len(data).to_bytes(8, "little") + data)
        out.flush()

    signal.signal(signal.SIGALRM, _ring)
    torch.manual_seed(0)
    scope, troubles = run_cells(task["cells"], task["seconds_a_cell"])
    send({"question": "", "troubles": troubles})
    for question, name, calls in task["calls"]:
        send({"question": question, "begin": True})
        send({"question": question, **answers(scope, name, calls, task["seconds_a_question"])})
    os._exit(0)  # whatever threads and handlers were left behind


if __name__ == "__main__":
    main()
