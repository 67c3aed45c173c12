"""The sandbox: one submission in bubblewrap, as nobody, without network or files; only a pipe leads out.

Used in the grading of exercises.
"""

import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fmcourse
from fmcourse.grading.wire import MAX_BYTES, WireError, pack, unpack

INSTALL = "install it: sudo apt-get install bubblewrap (Debian, Ubuntu), sudo dnf install bubblewrap (Fedora)"
NOBODY = 65534


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run of one submission may use."""

    seconds: float = 60.0  # of the wall clock, for everything
    cpu_seconds: int = 60
    seconds_a_cell: float = 10.0
    seconds_a_question: float = 10.0
    memory: int = 4_000_000_000  # bytes of address space
    processes: int = 64
    file_size: int = 50_000_000
    scratch: int = 100_000_000  # bytes in /tmp
    output: int = MAX_BYTES


class BoxMissing(RuntimeError):
    """There is no sandbox on this machine, so nothing can be graded."""


def command(limits: Limits) -> list[str]:
    """The command that runs `fmcourse.grading.runner` inside the box. Raises BoxMissing."""
    if sys.platform != "linux":
        raise BoxMissing(f"submissions are graded in a Linux sandbox (bubblewrap); this is {sys.platform}")
    bwrap, prlimit = shutil.which("bwrap"), shutil.which("prlimit")
    if bwrap is None or prlimit is None:
        raise BoxMissing(f"bubblewrap is needed to run untrusted code, and there is no way around it; {INSTALL}")
    package = Path(fmcourse.__file__).resolve().parent
    python = Path(sys.executable)
    base = Path(os.path.realpath(sys.executable)).parent.parent
    readable = {Path("/usr"), base, Path(sys.prefix)}
    above = sorted({parent for path in [*readable, Path("/in/fmcourse"), Path("/etc/x")] for parent in path.parents})
    dirs = [part for path in above[1:] for part in ("--perms", "0755", "--dir", str(path))]
    binds = [part for path in sorted(readable) for part in ("--ro-bind", str(path), str(path))]
    links = [
        part
        for name in ("bin", "lib", "lib64", "sbin")
        if (root := Path("/") / name).is_symlink()
        for part in ("--symlink", str(root.readlink()), str(root))
    ]
    files = [part for f in ("/etc/ld.so.cache",) if Path(f).exists() for part in ("--ro-bind", f, f)]
    limit = [
        prlimit,
        f"--as={limits.memory}",
        f"--cpu={limits.cpu_seconds}",
        f"--nproc={limits.processes}",
        f"--fsize={limits.file_size}",
        "--core=0",
        "--nofile=256",
    ]
    if os.geteuid() == 0:  # root makes the box, and a nobody runs in it
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise BoxMissing("setpriv (of util-linux) is needed to grade as root")
        walls = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        walls += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        inside = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
        inside += ["--inh-caps=-all", *limit]
    else:
        walls, inside = ["--unshare-all", "--cap-drop", "ALL"], limit
    return [
        bwrap,
        *walls,
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        *("--setenv", "PATH", "/usr/bin:/bin"),
        *("--setenv", "HOME", "/tmp"),
        *("--setenv", "LANG", "C.UTF-8"),
        *("--setenv", "OMP_NUM_THREADS", "1"),
        *("--setenv", "PYTHONPATH", "/in"),
        *("--setenv", "PYTHONDONTWRITEBYTECODE", "1"),
        *("--perms", "1777", "--size", str(limits.scratch), "--tmpfs", "/tmp"),  # first: Python may lie below /tmp
        *dirs,
        *binds,
        *links,
        *files,
        *("--ro-bind", str(package), "/in/fmcourse"),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--remount-ro", "/"),
        *("--chdir", "/tmp"),
        *inside,
        str(python),
        "-m",
        "fmcourse.grading.runner",
    ]


def run(task: dict[str, Any], limits: Limits) -> tuple[list[dict[str, Any]], str]:
    """Run a task in the box: the frames that came out, and how it ended ("done", "time", "output", "died").

    A frame is what the untrusted side says; only its form is known to be right.
    """
    with tempfile.TemporaryFile() as source:
        source.write(pack(task))
        source.seek(0)
        process = subprocess.Popen(
            command(limits),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    with process:
        if process.stdout is None:
            raise RuntimeError("the box has no pipe")
        data, end = _collect(process.stdout.fileno(), limits)
        process.kill()
    frames = _frames(data)
    answered = {str(frame.get("question")) for frame in frames if "begin" not in frame}
    complete = all(question in answered for question, _, _ in task["calls"])
    return frames, "died" if end == "done" and not complete else end


def _collect(descriptor: int, limits: Limits) -> tuple[bytes, str]:
    """Everything that the pipe gives, within limits of time and size."""
    data, until = bytearray(), time.monotonic() + limits.seconds
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            left = until - time.monotonic()
            if left <= 0 or not selector.select(left):
                return bytes(data), "time"
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                return bytes(data), "done"
            data += chunk
            if len(data) > limits.output:
                return bytes(data[: limits.output]), "output"


def _frames(data: bytes) -> list[dict[str, Any]]:
    frames, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        if at + 8 + size > len(data):
            break
        try:
            frames.append(unpack(data[at + 8 : at + 8 + size]))
        except WireError:
            break
        at += 8 + size
    return frames
