"""The UNTRUSTED side, which runs inside the sandbox: run the cells, answer the calls, send the answers to the judge.

Everything here can be tampered with by the code that it runs, and need not be trusted: references never are in the
sandbox, hidden inputs come one question at a time, and the `given` functions are computed by the judge, who refuses the
one that is being asked for.

Used in the grading of exercises.
"""

import builtins
import contextlib
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import torch

from fmcourse.grading.wire import WireError, pack, receive, send


class TookTooLong(BaseException):
    """Not an Exception, so that `except Exception` in a cell does not swallow it."""


def _ring(*_: object) -> None:
    raise TookTooLong


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong after so many seconds of work, and again and again, should it be caught.

    Work is counted, not waiting, so that a busy machine costs nobody a point; who waits has three times as long.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.2)
    signal.setitimer(signal.ITIMER_REAL, 3 * seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


class Judge:
    """The line to the judge: frames out, frames in."""

    def __init__(self, out: BinaryIO, source: BinaryIO) -> None:
        self.out, self.source, self.calls = out, source, 0

    def send(self, frame: dict[str, Any]) -> None:
        """Send one frame; what cannot cross is replaced by saying so."""
        try:
            data = pack(frame)
        except WireError:
            data = pack({"question": frame.get("question", ""), "trouble": "kind"})
        send(self.out, data)

    def receive(self, wanted: str) -> dict[str, Any]:
        """The next frame that has `wanted`; late ones of an interrupted call are passed over."""
        while wanted not in (frame := receive(self.source)):
            pass
        return frame

    def given(self, name: str) -> Callable[..., Any]:
        """A function that the judge computes."""

        def ask(*args: Any, **named: Any) -> Any:
            self.calls += 1
            send(self.out, pack({"given": name, "args": list(args), "names": list(named.items()), "call": self.calls}))
            while (reply := self.receive("call"))["call"] != self.calls:
                pass
            if "refused" in reply:
                raise ValueError(reply["refused"])
            return reply["value"]

        return ask


class Anything:
    """Stands for what does nothing here: magics of IPython, checks of the exercise."""

    def __getattr__(self, name: str) -> "Anything":
        return Anything()

    def __call__(self, *args: Any, **named: Any) -> "Anything":
        return Anything()


def exercise_module(judge: Judge, given: list[str]) -> types.ModuleType:
    """What a notebook imports as `fmcourse.exercises`: checks that say nothing, and the given functions."""
    check = type("Check", (Anything,), {"given": types.SimpleNamespace(**{name: judge.given(name) for name in given})})
    module = types.ModuleType("fmcourse.exercises")
    module.__dict__["start"] = lambda name: check()
    return module


def run_cells(cells: list[str], seconds: float) -> dict[str, Any]:
    """Run every cell in one namespace, each for at most `seconds`; a cell that fails does not stop the others."""
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "get_ipython": Anything}
    for number, source in enumerate(cells, start=1):
        with contextlib.suppress(BaseException), limit(seconds):
            exec(compile(source, f"<cell {number}>", "exec"), scope)
    return scope


def answers(scope: dict[str, Any], name: str, calls: list[list[Any]] | None, seconds: float) -> dict[str, Any]:
    """What the answer called `name` gives to each call, or which trouble there was."""
    if name not in scope:
        return {"trouble": "missing"}
    try:
        with limit(seconds):
            return {"answers": [scope[name]] if calls is None else [scope[name](*args) for args in calls]}
    except TookTooLong:
        return {"trouble": "time"}
    except BaseException as error:
        return {"trouble": type(error).__name__}


def main() -> None:
    """Take the task, run the cells, then answer one question after the other."""
    # What is printed goes nowhere, and does not mix with the answers; nobody else reads what the judge sends.
    judge = Judge(os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb"))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    task = judge.receive("cells")
    sys.modules["fmcourse.exercises"] = exercise_module(judge, task["given"])
    for ring in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(ring, _ring)
    torch.manual_seed(0)
    scope = run_cells(task["cells"], task["seconds_a_cell"])
    judge.send({"ready": True})
    while True:
        asked = judge.receive("question")
        found = answers(scope, asked["answer"], asked["calls"], task["seconds_a_question"])
        judge.send({"question": asked["question"], **found})


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(0)  # whatever threads and handlers were left behind
