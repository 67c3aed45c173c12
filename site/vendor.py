"""Bring the third-party files that the site serves itself: pinned npm packages into `site/_vendor/vendor/`.

Run as `python site/vendor.py`; it does nothing when the copy is already that of `package-lock.json`. Sphinx publishes
`site/_vendor` as it is (`html_extra_path`): a page asks for `vendor/...` on its own origin, and for nothing elsewhere.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

SITE = Path(__file__).resolve().parent
VENDOR = SITE / "_vendor" / "vendor"

# What a page can ask for. Left out of MathJax (13 MB): its other entry points, the speech-rule engine and the context
# menu's files, which `enableMenu: false` never requests; MathML for screen readers is inside tex-chtml.js.
FILES = {
    "mathjax/tex-chtml.js": "mathjax/es5/tex-chtml.js",
    "mathjax/input/tex/extensions": "mathjax/es5/input/tex/extensions",
    "mathjax/output/chtml/fonts/woff-v2": "mathjax/es5/output/chtml/fonts/woff-v2",
    "mathjax/LICENSE": "mathjax/LICENSE",
}


def fingerprint() -> str:
    """Changes whenever the pinned packages or this file's choice from them change."""
    return hashlib.sha256((SITE / "package-lock.json").read_bytes() + Path(__file__).read_bytes()).hexdigest()


def install() -> None:
    """`npm ci`: exactly the locked packages, checked against their hashes, running none of their scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("site/vendor.py needs npm. Install Node.js 18 or newer (Debian, Ubuntu: apt-get install npm).")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if subprocess.run(command, cwd=SITE, check=False).returncode:
        raise SystemExit(f"site/vendor.py: `{' '.join(command[1:])}` failed in site/: is the npm registry reachable?")


def copy() -> None:
    """Copy the chosen files beside the old ones, then swap, so that a failed run leaves no half-filled folder."""
    fresh = VENDOR.with_name("vendor.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for target, source in FILES.items():
        here, there = SITE / "node_modules" / source, fresh / target
        there.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if here.is_dir() else shutil.copyfile)(here, there)
    shutil.rmtree(VENDOR, ignore_errors=True)
    fresh.rename(VENDOR)


def main() -> int:
    """Install and copy unless that is done already."""
    stamp = SITE / "node_modules" / ".fmcourse-vendored"
    if stamp.exists() and stamp.read_text() == fingerprint() and VENDOR.is_dir():
        return 0
    install()
    copy()
    stamp.write_text(fingerprint())
    size = sum(path.stat().st_size for path in VENDOR.rglob("*") if path.is_file())
    print(f"site/_vendor: {len(FILES)} entries, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
