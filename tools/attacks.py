"""What hostile submissions win where answers are checked in the same process: `python -m tools.attacks`.

Every attack of `tests/grading/hostile.py` is run against a plain checker, as most graders are built: the cells run,
then the answers are compared in the same process, with hidden inputs, and the marks are written to a file. To spare
this machine the checker itself is shut into bubblewrap. Writes `exercises/attacks.md`, a page of the book; it takes
some minutes. What the same submissions get from our grader is asserted in `tests/grading/test_hostile.py`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from nbformat.v4 import new_code_cell, new_notebook
from tqdm import tqdm

from fmcourse.exercises import load
from tests.grading.hostile import ATTACKS, Attack, server
from tools.exercises import FOLDER, cells_of, solved
from tools.project import ROOT

EXERCISE = load("attention")
PAGE = FOLDER / "attacks.md"
SECONDS = 30
CHECKER = """
import json, os, subprocess
from pathlib import Path
from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.grading.submission import read

bystanders = [subprocess.Popen(["sleep", "1000"]) for _ in range(5)]
exercise, scope, marks = load("attention"), {"__name__": "__main__"}, {}
for source in read(Path("/submission.ipynb"), "x").cells:
    try:
        exec(compile(source, "<cell>", "exec"), scope)
    except Exception as error:
        print(error)
for question in exercise.questions:
    wrong = examine(question, scope.get(question.answer), (20261125,))
    marks[question.id] = {"points": 0 if wrong else question.points, "says": wrong or ""}
Path("/results/results.json").write_text(json.dumps(marks))
own = {"1", "2", str(os.getpid()), *(str(one.pid) for one in bystanders)}
left = [p for p in os.listdir("/proc") if p.isdigit() and p not in own]
Path("/results/after.json").write_text(json.dumps({"left": len(left), "killed": bystanders[0].poll() is not None}))
for one in bystanders:
    one.kill()
"""
GROUPS = {  # the first attack of each group, in the order of the corpus
    "infinite loop in a cell": "Endless and greedy",
    "os._exit in a cell": "Leaving early",
    "patches torch's comparison": "Changing the checker",
    "equal to everything": "Tricky answers",
    "an input transformer": "Notebook tricks",
    "network": "Looking around",
}


def right_cells() -> list[str]:
    """The code of a submission with every answer right."""
    cells = cells_of(FOLDER / EXERCISE.name / "master.py")
    return [solved(cell.source) for cell in cells if cell.cell_type == "code" and "check.receipt" not in cell.source]


def write_notebook(path: Path, cells: list[str]) -> None:
    """A notebook with these cells."""
    path.write_text(json.dumps(new_notebook(cells=[new_code_cell(cell) for cell in cells])), encoding="utf-8")


def run(attack: Attack) -> str:
    """What comes of an attack when answers are checked in the same process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "results").mkdir()
        write_notebook(folder / "submission.ipynb", [*right_cells(), attack.code])
        write_notebook(folder / "other.ipynb", right_cells())
        command = [
            *("bwrap", "--unshare-user", "--uid", "1000", "--unshare-pid", "--unshare-ipc", "--die-with-parent"),
            *(
                "--setenv",
                "GRADING_SECRET",
                "something to be read",
                "--tmpfs",
                "/",
                "--perms",
                "1777",
                "--size",
                "100000000",
            ),
            *("--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp"),
            *(part for at in ("/usr", "/etc", "/root", "/home") if Path(at).exists() for part in ("--ro-bind", at, at)),
            *(part for at in ("bin", "lib", "lib64", "sbin") for part in ("--symlink", f"usr/{at}", f"/{at}")),
            *("--ro-bind", str(ROOT), str(ROOT), "--ro-bind", sys.prefix, sys.prefix),
            *("--bind", str(folder / "results"), "/results"),
            *("--ro-bind", str(folder / "submission.ipynb"), "/submission.ipynb"),
            *("--ro-bind", str(folder / "other.ipynb"), "/submissions/other.ipynb", "--remount-ro", "/"),
            *("prlimit", "--as=4000000000", "--nproc=2000", "--fsize=50000000", sys.executable, "-c", CHECKER),
        ]
        try:
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"**never ends** (stopped after {SECONDS} s)"
        return outcome(attack, folder / "results")


def outcome(attack: Attack, results: Path) -> str:
    """In words, from the marks that the checker left, or did not leave."""
    try:
        marks = json.loads((results / "results.json").read_text("utf-8"))
        points = {question: mark["points"] for question, mark in marks.items()}
    except (OSError, ValueError):
        return "**the checker dies**: no mark at all"
    # Undeserved are points for an answer that the attack itself replaces. What it loses only because it disturbs the
    # pipe of the sandbox it may keep here: the other answers are right.
    replaced = {q.id for q in EXERCISE.questions if any(f"{x} {q.answer}" in attack.code for x in ("def", "global"))}
    replaced |= {q.id for q in EXERCISE.questions if f"{q.answer} = " in attack.code}
    deserved = {q.id: 0 if q.id in attack.lost & replaced else q.points for q in EXERCISE.questions}
    won = sum(max(0, points.get(question, 0) - right) for question, right in deserved.items())
    if won:
        return f"**wins {won} point{'s' if won > 1 else ''}**"
    after = json.loads((results / "after.json").read_text("utf-8")) if (results / "after.json").exists() else {}
    if after.get("killed"):
        return "**kills other programs**"
    if after.get("left"):
        return "**leaves processes behind**"
    if "assert " in attack.code and "AssertionError" not in "".join(mark["says"] for mark in marks.values()):
        return "**does what it tries**"
    lost = sum(max(0, right - points.get(question, 0)) for question, right in deserved.items())
    return "spoils more of its own than it should" if lost else "nothing"


def page(outcomes: dict[str, str]) -> str:
    """The page of the book."""
    succeed = sum("**" in text for text in outcomes.values())
    lines = [
        "---\ndescription: What hostile submissions win in a plain checker, and in the sandbox.\n---",
        "\n# What attacks win, and do not win\n",
        f"Each of these {len(outcomes)} submissions answers every question of the attention exercise rightly, and then "
        "does something hostile in one more cell. It is graded twice: by a plain checker, which runs the notebook and "
        f"compares the answers in the same process, and by `fmcourse grade`. In the plain checker {succeed} of them "
        "win points that they do not deserve, get at what is not theirs, or stop the checker. In the sandbox none "
        "does; the project's tests assert it for each of them, at every change. (The plain checker, too, was run "
        "behind walls, to spare the machine, and looks for no forbidden names.)\n",
        "*Loses* names the questions whose answers the attack itself spoils: losing them is right.",
    ]
    for name, found in outcomes.items():
        if name in GROUPS:
            lines.append(f"\n## {GROUPS[name]}\n\n| submission | plain checker | in the sandbox |\n|---|---|---|")
        attack = ATTACKS[name]
        lost = "every question" if len(attack.lost) == len(EXERCISE.questions) else ", ".join(sorted(attack.lost))
        box = f"loses {lost}" if lost else "loses nothing"
        box = "at most harms its own marks" if attack.self_harm else box
        lines.append(f"| {name} | {found} | wins nothing, {box} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    with server():  # one at a time: some use up what the machine has
        found = [run(attack) for attack in tqdm(ATTACKS.values(), unit="attack")]
    PAGE.write_text(page(dict(zip(ATTACKS, found, strict=True))), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
