"""Thirty made-up students for the instructor's guide: `python -m tools.example_class`.

Every student has an ability, drawn from a seed; the better they are and the easier a question, the likelier they answer
it rightly. Who does not, leaves it open or makes one of the mistakes below. A few are more special: one notebook is
damaged, one takes torch's own functions, one never ends, one tries to forge the results. They are graded by
`fmcourse grade`, and what it writes is kept in `exercises/class`, for the guide to show.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook
from nbformat.v4 import writes as notebook_text

from tools.exercises import FOLDER, cells_of, for_learner, solved

EXERCISE, SEED, STUDENTS = "attention", "an example: a real seed is secret", 30
CLASS = FOLDER / "class"
SHOWN = "student-18"  # whose feedback the guide shows
_MASK = "def window_mask(length, width):\n    distance = torch.arange(length)[:, None] - torch.arange(length)\n"
# By question: how hard it is, and what people write instead of the right answer.
MISTAKES: dict[str, tuple[float, list[str]]] = {
    "q1": (-1.0, ["weight_of_first_key = 2 / 3", "weight_of_first_key = 0.88", "weight_of_first_key = 0.27"]),
    "q2": (-0.8, ["def scores(query, key):\n    return query @ key.mT",
                  "def scores(query, key):\n    return query @ key.T / query.shape[-1] ** 0.5",
                  "def scores(query, key):\n    return query @ key.mT / query.shape[-1]"]),
    "q3": (0.6, ["def softmax(x):\n    return x.exp() / x.exp().sum(dim=-1, keepdim=True)",
                 "def softmax(x):\n    p = (x - x.max()).exp()\n    return p / p.sum(dim=-1, keepdim=True)",
                 "def softmax(x):\n    p = (x - x.amax(dim=-1)).exp()\n    return p / p.sum(dim=-1)"]),
    "q4": (0.3, ["def masked_weights(scores, may_attend):\n    return given.softmax(scores) * may_attend",
                 "def masked_weights(scores, may_attend):\n    return given.softmax(scores * may_attend)",
                 "def masked_weights(scores, may_attend):\n"
                 "    return given.softmax(scores.masked_fill(may_attend, float('-inf')))"]),
    "q5": (-0.2, ["def attention(query, key, value, may_attend):\n"
                  "    return given.masked_weights(query @ key.mT, may_attend) @ value",
                  "def attention(query, key, value, may_attend):\n"
                  "    return given.softmax(given.scores(query, key)) @ value"]),
    "q6": (0.8, [f"{_MASK}    return (distance >= 0) & (distance <= width)",
                 f"{_MASK}    return distance.abs() < width"]),
    "q7": (0.4, ["def entropy(weights):\n    return -(weights * weights.log()).sum(dim=-1)",
                 "def entropy(weights):\n    return -(weights * weights.clamp(min=1e-9).log2()).sum(dim=-1)"]),
    "q8": (0.9, ["query, key = torch.randn(4000, 1, 64), torch.randn(4000, 16, 64)\n"
                 "sharpness = (query @ key.mT / 8).softmax(-1).amax(-1).mean().item()", "sharpness = 0.5"]),
}  # fmt: skip
SPECIAL = {
    "student-11": "from torch import softmax as mine\ndef softmax(x):\n    return mine(x, -1)",
    "student-19": "def entropy(weights):\n    while True:\n        pass",
    "student-23": "import json\njson.dump({'score': 1000}, open('results.json', 'w'))\n"
    "import fmcourse.exercises.session as s\ns.examine = lambda *a: None",
}


def write_submissions(folder: Path) -> None:
    """The thirty notebooks; the same every time."""
    draw = random.Random(20261125)
    cells = [cell for cell in cells_of(FOLDER / EXERCISE / "master.py") if cell.cell_type == "code"]
    for number in range(1, STUDENTS + 1):
        student, ability = f"student-{number:02}", draw.gauss(0.7, 1.2)
        sources = []
        for cell in cells:
            difficulty, mistakes = MISTAKES.get(cell.metadata.get("question"), (None, []))
            right = difficulty is None or draw.random() < 1 / (1 + 2.718 ** (difficulty - ability))
            wrong = draw.choice([*mistakes, *mistakes, for_learner(cell.source)])
            sources.append(solved(cell.source) if right else wrong)
        sources += [SPECIAL[student]] if student in SPECIAL else []
        notebook = notebook_text(new_notebook(cells=[new_code_cell(source) for source in sources]))
        text = notebook[: len(notebook) // 2] if student == "student-28" else notebook
        (folder / f"{student}.ipynb").write_text(text + "\n", encoding="utf-8")


def grade(submissions: Path, out: Path) -> None:
    """Grade them as an instructor does."""
    (submissions.parent / "seed.txt").write_text(SEED, encoding="utf-8")
    command = [sys.executable, "-m", "fmcourse", "grade", str(submissions), "--exercise", EXERCISE, "--jobs", "2"]
    command += ["--seed-file", str(submissions.parent / "seed.txt"), "--out", str(out)]
    subprocess.run(command, check=True)


def kept() -> list[str]:
    """What of the results is kept for the guide."""
    return ["grades.csv", "report.html", "report.svg", f"feedback/{SHOWN}.html", f"results/{SHOWN}.json"]


def summary(report: str) -> str:
    """The report's first sentence and its table, for the guide to include."""
    page = BeautifulSoup(report, "html.parser")
    rows = [[cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in page.select("tr")]
    first = page.select_one("p")
    if first is None:
        raise ValueError("the report has no first paragraph")
    lines = [" ".join(first.get_text().split()), "", ":::{list-table}", ":header-rows: 1", ""]
    for row in rows:
        lines += [f"{'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return "\n".join([*lines, ":::"]) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        submissions, out = Path(name, "submissions"), Path(name, "graded")
        submissions.mkdir()
        write_submissions(submissions)
        grade(submissions, out)
        shutil.rmtree(CLASS, ignore_errors=True)
        for file in kept():
            (CLASS / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(out / file, CLASS / file)
    text = summary((CLASS / "report.html").read_text("utf-8"))
    (CLASS / "summary.md").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
