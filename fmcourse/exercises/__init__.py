"""Exercises: one specification each, from which `check` gives instant feedback and the judge grades."""

from fmcourse.exercises.session import Session, start
from fmcourse.exercises.spec import load, names

__all__ = ["Session", "load", "names", "start"]
