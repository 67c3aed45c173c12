"""Feedback on a whole notebook from a terminal: its cells run here, in this process, and every answer is checked.

It is for the author of the notebook. Whatever runs in the same process as its checker can change the checker, so that
this gives feedback and never a mark; marks come from `fmcourse grade`.

Used in the grading of exercises.
"""

import sys
import traceback
from pathlib import Path

from fmcourse.exercises.session import Feedback, Session
from fmcourse.exercises.spec import Exercise
from fmcourse.grading.submission import read


def practise(notebook: Path, exercise: Exercise) -> tuple[Session, list[Feedback]]:
    """Run a notebook and check every answer. What its cells print goes on; an error in a cell is shown and passed over.

    Raises SubmissionError for a file that is no notebook.
    """
    scope: dict[str, object] = {"__name__": "__main__"}
    for number, source in enumerate(read(notebook, notebook.stem).cells, start=1):
        try:
            exec(compile(source, f"<cell {number}>", "exec"), scope)
        except Exception:
            print(f"cell {number}:", traceback.format_exc(limit=-2), file=sys.stderr)
    session = Session(exercise)
    return session, [session(question.id, scope.get(question.answer)) for question in exercise.questions]
