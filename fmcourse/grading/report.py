"""What a graded class gets: grades.csv, one results.json and feedback page a student, a report for the instructor.

Used in the grading of exercises.
"""

import csv
import io
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment

from fmcourse.exercises.spec import Exercise
from fmcourse.grading.judge import Mark

_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}th,td{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}
h2{font-size:1.1rem;margin-bottom:0}svg{max-width:100%}</style></head><body>
{% block body %}{% endblock %}
</body></html>
"""
_FEEDBACK = _ENVIRONMENT.from_string(
    _PAGE.replace(
        "{% block body %}{% endblock %}",
        """<h1>{{ title }}</h1>
<p>{{ got }} of {{ out_of }} points{% if note %}. {{ note }}{% endif %}</p>
{% for question, mark in rows %}
<h2>{{ question.id }}, {{ question.title }}: {{ mark.points }} of {{ mark.out_of }}</h2>
{% for line in mark.says %}
<p>{{ line }}</p>
{% endfor %}
{% endfor %}""",
    )
)
_REPORT = _ENVIRONMENT.from_string(
    _PAGE.replace(
        "{% block body %}{% endblock %}",
        """<h1>{{ title }}</h1>
<p>{{ n }} submissions{% if unreadable %}, {{ unreadable }} of them unreadable{% endif %}; mean
{{ "%.1f" | format(mean) }} of {{ out_of }} points, median {{ "%.1f" | format(median) }}.</p>
<table><thead><tr><th scope="col">question</th><th scope="col">title</th><th scope="col">right</th>
<th scope="col">share</th><th scope="col">discrimination</th><th scope="col">frequent mistakes</th></tr></thead><tbody>
{% for row in rows %}
<tr><td>{{ row.id }}</td><td>{{ row.title }}</td><td>{{ row.right }}</td>
<td>{{ "%.0f" | format(row.share * 100) }} %</td><td>{{ row.discrimination }}</td><td>{{ row.mistakes }}</td></tr>
{% endfor %}
</tbody></table>
<p>Discrimination is the correlation of a question with the points for all others: near zero or below it, a question
tells little about what a student can do. Frequent mistakes are those that the exercise knows by name, with the number
of students who gave exactly that answer.</p>
<h2>How hard each question was, and the points of the class</h2>
<div role="img" aria-label="Bars: the share of right answers by question, as in the table. Columns: how many students
have how many points; the mean and the median stand above.">
{{ figure | safe }}
</div>""",
    )
)


def total(marks: Sequence[Mark]) -> int:
    """All points of a student."""
    return sum(mark.points for mark in marks)


def file_name(student: str) -> str:
    """A name for the student's files that stays in its folder, whatever the student is called."""
    return quote(student, safe=" @+-_äöüÄÖÜß").replace(".", "%2E") or "%"


def write_atomically(path: Path, text: str) -> None:
    """Write a file in one step: an interruption leaves the old one, or none."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(text, encoding="utf-8", newline="\n")
    fresh.replace(path)


def results(exercise: Exercise, marks: Sequence[Mark], note: str) -> str:
    """Gradescope's results.json for one student."""
    titles = {question.id: f"{question.id}, {question.title}" for question in exercise.questions}
    tests = [
        {
            "name": titles[mark.question],
            "score": mark.points,
            "max_score": mark.out_of,
            "output": "\n".join(mark.says),
            "visibility": "after_published",
        }
        for mark in marks
    ]
    found = {"score": total(marks), "output": note, "tests": tests}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def write_student(out: Path, exercise: Exercise, student: str, marks: Sequence[Mark], note: str) -> None:
    """Gradescope's results.json and the feedback page of one student: no hidden input, no expected value."""
    name = file_name(student)
    write_atomically(out / "results" / f"{name}.json", results(exercise, marks, note))
    page = _FEEDBACK.render(
        title=f"{exercise.title}: {student}",
        got=total(marks),
        out_of=exercise.points,
        note=note,
        rows=list(zip(exercise.questions, marks, strict=True)),
    )
    write_atomically(out / "feedback" / f"{name}.html", page)


def write_class(out: Path, exercise: Exercise, graded: Mapping[str, tuple[list[Mark], str]]) -> None:
    """grades.csv, report.html and its figure report.svg, students in the order of their names."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["student", *(question.id for question in exercise.questions), "total", "out_of", "note"])
    for student in sorted(graded):
        marks, note = graded[student]
        # A leading character that a spreadsheet would take for a formula is made text.
        shown = f"'{student}" if student[:1] in "=+-@\t\r" else student
        table.writerow([shown, *(mark.points for mark in marks), total(marks), exercise.points, note])
    write_atomically(out / "grades.csv", text.getvalue())

    totals = [total(marks) for marks, _ in graded.values()]
    rows, shares = [], []
    for i, question in enumerate(exercise.questions):
        own = [marks[i].points for marks, _ in graded.values()]
        right = sum(points > 0 for points in own)
        mistakes = Counter(marks[i].looks_like for marks, _ in graded.values() if marks[i].looks_like)
        shares.append(right / len(own))
        rows.append(
            {
                "id": question.id,
                "title": question.title,
                "right": right,
                "share": right / len(own),
                "discrimination": _correlation(own, [t - o for t, o in zip(totals, own, strict=True)]),
                "mistakes": ", ".join(f"{name} ({n})" for name, n in mistakes.most_common()),
            }
        )
    figure = draw(exercise, shares, totals)
    write_atomically(out / "report.svg", figure)
    page = _REPORT.render(
        title=f"{exercise.title}: report",
        figure=figure[figure.index("<svg") :],
        n=len(graded),
        unreadable=sum(bool(note) for _, note in graded.values()),
        mean=statistics.fmean(totals),
        median=statistics.median(totals),
        out_of=exercise.points,
        rows=rows,
    )
    write_atomically(out / "report.html", page)


def draw(exercise: Exercise, shares: Sequence[float], totals: Sequence[int]) -> str:
    """The report's figure as SVG: the share of right answers by question, and how the points are spread."""
    import matplotlib
    from matplotlib.figure import Figure

    from fmcourse import plotting

    with matplotlib.rc_context():
        plotting.use_style()
        # The same marks give the same file; letters stay letters, to be read aloud and translated.
        matplotlib.rcParams.update({"svg.hashsalt": exercise.name, "svg.fonttype": "none"})
        figure = Figure(figsize=(7.2, 0.34 * len(shares) + 1.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        ids = [question.id for question in exercise.questions]
        bars = left.barh(ids, [100 * share for share in shares])
        left.bar_label(bars, fmt="%.0f", padding=3)
        left.set(xlabel="right answers (%)", ylabel="question", xlim=(0, 112))
        left.invert_yaxis()
        right.hist(totals, bins=[x - 0.5 for x in range(exercise.points + 2)])
        right.set(xlabel=f"points (of {exercise.points})", ylabel="students")
        right.yaxis.get_major_locator().set_params(integer=True)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _correlation(a: Sequence[float], b: Sequence[float]) -> str:
    if len(set(a)) < 2 or len(set(b)) < 2:
        return "not defined"
    return f"{statistics.correlation(a, b):.2f}"


def as_json(marks: Sequence[Mark], note: str, digest: str) -> str:
    """A graded submission, to go on from after an interruption."""
    return json.dumps({"digest": digest, "note": note, "marks": [asdict(mark) for mark in marks]}) + "\n"


def from_json(text: str) -> tuple[list[Mark], str, str]:
    """Marks, note and digest of `as_json`."""
    kept = json.loads(text)
    return [Mark(**{**mark, "says": tuple(mark["says"])}) for mark in kept["marks"]], kept["note"], kept["digest"]
