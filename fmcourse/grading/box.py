"""The sandbox: one submission in bubblewrap, as nobody, without network or files; only a pipe leads out.

Inside a container that is thrown away after one submission, another user does what bubblewrap cannot do there.

Used in the grading of exercises.
"""

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import fmcourse
from fmcourse.grading.wire import MAX_BYTES, WireError, frame, pack, unpack

INSTALL = "install it: sudo apt-get install bubblewrap (Debian, Ubuntu), sudo dnf install bubblewrap (Fedora)"
NOBODY = 65534


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run of one submission may use."""

    seconds: float = 180.0  # of the wall clock, for everything
    cpu_seconds: int = 90
    seconds_a_cell: float = 10.0  # of work; three times as long with waiting
    seconds_a_question: float = 10.0
    memory: int = 4_000_000_000  # bytes of address space
    processes: int = 64
    file_size: int = 50_000_000
    scratch: int = 100_000_000  # bytes in /tmp
    answer: int = MAX_BYTES  # bytes of one answer
    output: int = 500_000_000  # bytes of everything that comes out, calls of the given functions too


class BoxMissing(RuntimeError):
    """There is no sandbox on this machine, so nothing can be graded."""


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BoxMissing(f"{name} (of util-linux) is needed to grade")
    return found


def _limited(limits: Limits) -> list[str]:
    """What runs inside the walls: the runner, under the limits that the kernel keeps for a process."""
    return [
        _tool("prlimit"),
        f"--as={limits.memory}",
        f"--cpu={limits.cpu_seconds}",
        f"--nproc={limits.processes}",
        f"--fsize={limits.file_size}",
        "--core=0",
        "--nofile=256",
        sys.executable,
        "-m",
        "fmcourse.grading.runner",
    ]


def _as_nobody() -> list[str]:
    user = [_tool("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    return [*user, "--inh-caps=-all"]


def _environment(package: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": package,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def inner_files() -> dict[str, Path]:
    """What of this package is in the box, by its place there: no reference is among it."""
    home = Path(fmcourse.__file__).resolve().parent
    empty = home / "grading" / "__init__.py"
    inner = {"__init__.py": empty, "grading/__init__.py": empty}
    return inner | {f"grading/{name}.py": home / "grading" / f"{name}.py" for name in ("runner", "wire")}


def other_user(limits: Limits, package: str) -> list[str]:
    """Walls for a throw-away container where bubblewrap cannot work: nobody's rights, limits, an empty environment.

    `package` is a folder with `inner_files`. The caller sees to it that nobody can read anything else of ours, and that
    the container is thrown away. Raises BoxMissing without the rights to change the user.
    """
    if os.geteuid() != 0:
        raise BoxMissing("to run code as another user, grade as root, in a container of its own")
    variables = [f"{name}={value}" for name, value in _environment(package).items()]
    return [*_as_nobody(), _tool("env"), "--ignore-environment", "--chdir=/tmp", *variables, *_limited(limits)]


def command(limits: Limits) -> list[str]:
    """The command that runs `fmcourse.grading.runner` inside bubblewrap. Raises BoxMissing."""
    if sys.platform != "linux":
        raise BoxMissing(f"submissions are graded in a Linux sandbox (bubblewrap); this is {sys.platform}")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise BoxMissing(f"bubblewrap is needed to run untrusted code, and there is no way around it; {INSTALL}")
    base = Path(os.path.realpath(sys.executable)).parent.parent
    readable = {Path("/usr"), base, Path(sys.prefix)}
    above = sorted(
        {parent for path in [*readable, Path("/in/fmcourse/grading/x"), Path("/etc/x")] for parent in path.parents}
    )
    dirs = [part for path in above[1:] for part in ("--perms", "0755", "--dir", str(path))]
    binds = [part for path in sorted(readable) for part in ("--ro-bind", str(path), str(path))]
    home = Path(fmcourse.__file__).resolve().parent
    hidden = ["--tmpfs", str(home)] if any(home.is_relative_to(path) for path in readable) else []
    package = [
        part for name, path in inner_files().items() for part in ("--ro-bind", str(path), f"/in/fmcourse/{name}")
    ]
    links = [
        part
        for name in ("bin", "lib", "lib64", "sbin")
        if (root := Path("/") / name).is_symlink()
        for part in ("--symlink", str(root.readlink()), str(root))
    ]
    files = [part for f in ("/etc/ld.so.cache",) if Path(f).exists() for part in ("--ro-bind", f, f)]
    variables = [part for name, value in _environment("/in").items() for part in ("--setenv", name, value)]
    if os.geteuid() == 0:  # root makes the box, and a nobody runs in it
        walls = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        walls += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        inside = [*_as_nobody(), *_limited(limits)]
    else:
        walls, inside = ["--unshare-all", "--cap-drop", "ALL"], _limited(limits)
    return [
        bwrap,
        *walls,
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        *variables,
        *("--perms", "1777", "--size", str(limits.scratch), "--tmpfs", "/tmp"),  # first: Python may lie below /tmp
        *dirs,
        *binds,
        *links,
        *files,
        *hidden,
        *package,
        *("--proc", "/proc", "--dev", "/dev"),
        *("--remount-ro", "/"),
        *("--chdir", "/tmp"),
        *inside,
    ]


def check(limits: Limits, walls: Callable[[Limits], list[str]] = command) -> None:
    """Start the box once, before anybody is graded by one that does not work. Raises BoxMissing."""
    done = subprocess.run(walls(limits), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise BoxMissing(f"the sandbox does not start on this machine: {why[-1]}")


class Box:
    """One run of one submission. `ended` says why nothing more comes: "time", "output" or "died"."""

    def __init__(self, limits: Limits, walls: Callable[[Limits], list[str]] = command) -> None:
        self.limits, self.ended = limits, ""
        self._until = time.monotonic() + limits.seconds
        self._data, self._total = bytearray(), 0
        self._process = subprocess.Popen(
            walls(limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the box has no pipes")
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # bubblewrap takes everything inside with it
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def send(self, message: dict[str, Any]) -> None:
        """Send a frame; what the box does not take in time ends it."""
        left = memoryview(frame(pack(message)))
        while left and self._wait(self._in, selectors.EVENT_WRITE):
            try:
                left = left[os.write(self._in, left) :]
            except BlockingIOError:
                continue
            except OSError:
                self.ended = "died"

    def receive(self) -> dict[str, Any] | None:
        """The next frame, or None when no more come. It is what the untrusted side says: only its form is checked."""
        while not self.ended:
            size = int.from_bytes(self._data[:8], "little") if len(self._data) >= 8 else None
            if size is not None and size > self.limits.answer:
                self.ended = "output"
            elif size is not None and len(self._data) >= 8 + size:
                message, self._data = bytes(self._data[8 : 8 + size]), self._data[8 + size :]
                try:
                    return unpack(message)
                except WireError:
                    self.ended = "died"
            elif self._wait(self._out, selectors.EVENT_READ):
                chunk = os.read(self._out, 1 << 20)
                self._data += chunk
                self._total += len(chunk)
                if not chunk:
                    self.ended = "died"
                elif self._total > self.limits.output:
                    self.ended = "output"
        return None

    def _wait(self, descriptor: int, event: int) -> bool:
        """Whether the pipe is ready before the time is up."""
        left = self._until - time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if not self.ended and (left <= 0 or not selector.select(left)):
                self.ended = "time"
        return not self.ended
