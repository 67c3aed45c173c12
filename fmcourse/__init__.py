"""fmcourse: the small package that every chapter of the book draws on.

`import fmcourse` is light: torch and matplotlib are imported by the modules that need them, when they are needed.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fmcourse.glue import glue

if TYPE_CHECKING:
    from fmcourse.device import Settings, setup

__all__ = ["Settings", "__version__", "glue", "setup"]

try:
    __version__ = version("fmcourse")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_HOME = {"setup": "fmcourse.device", "Settings": "fmcourse.device"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fmcourse' has no attribute {name!r}; public names: {', '.join(__all__)}")
