"""How long does `import fmcourse` take above bare Python, and how long a clean build of the site?"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import Row, medians

ROOT = Path(__file__).resolve().parent.parent


def import_time(repeats: int = 15) -> Row:
    """Seconds of `import fmcourse`, above those of a Python that does nothing."""

    def python(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    seconds = medians({"ours": lambda: python("import fmcourse"), "peer": lambda: python("pass")}, repeats=repeats)
    above = seconds["ours"] - seconds["peer"]
    return Row("import fmcourse, above bare Python", f"{above:.3f} s", f"{seconds['peer']:.3f} s", above, "<= 0.2 s")


def build_time() -> Row:
    """Seconds of a site build from the committed outputs, nothing cached."""
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    started = time.perf_counter()
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "-n", "--keep-going"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    return Row("clean build of the site", f"{seconds:.1f} s", "", seconds, "<= 30 s")


def measure() -> list[Row]:
    """Both."""
    return [import_time(), build_time()]
