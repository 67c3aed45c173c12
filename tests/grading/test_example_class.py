"""The class of the instructor's guide, graded again: the marks and words that the guide shows are still true."""

import json

from tools.example_class import CLASS, SHOWN, STUDENTS, grade, summary, write_submissions


def test_the_class_gets_the_marks_that_the_guide_shows(tmp_path):
    submissions, graded = tmp_path / "submissions", tmp_path / "graded"
    submissions.mkdir()
    write_submissions(submissions)
    assert len(list(submissions.iterdir())) == STUDENTS == 30
    grade(submissions, graded)
    for name in ("grades.csv", f"feedback/{SHOWN}.html", f"results/{SHOWN}.json"):
        assert (graded / name).read_text("utf-8") == (CLASS / name).read_text("utf-8")
    told = summary((graded / "report.html").read_text("utf-8"))
    assert told == (CLASS / "summary.md").read_text("utf-8")
    assert told in summary((CLASS / "report.html").read_text("utf-8"))
    results = [json.loads(path.read_text("utf-8")) for path in (graded / "results").iterdir()]
    assert f"{sum(result['score'] for result in results) / STUDENTS:.1f} of 18 points" in told
