"""What learners get is made from the masters, holds no solution, and what they start from passes nothing."""

import pytest

from fmcourse.exercises import load, names, start
from tools.exercises import FOLDER, cells_of, check, for_learner, masters, overview, solved, split, student
from tools.normalise import is_colab_cell, read
from tools.project import Project

NAMES = [master.parent.name for master in masters()]


@pytest.fixture(scope="session")
def project():
    return Project.load()


def test_every_exercise_has_a_master():
    assert names() == NAMES


@pytest.mark.parametrize("master", masters(), ids=NAMES)
def test_making_them_again_leaves_no_difference(master, project):
    assert check(master, project) == []


def test_the_book_has_every_exercise_in_the_order_of_chapters():
    toc = (FOLDER.parent / "_toc.yml").read_text("utf-8").split()
    chapters = [line.split("/")[-1] for line in toc if line.startswith("chapters/")]
    order = sorted(NAMES, key=chapters.index)
    assert [line.split("/")[1] for line in toc if line.endswith("/questions")] == order
    assert [line.split("/")[1] for line in toc if line.endswith("/solution")] == order


@pytest.mark.parametrize("name", NAMES)
def test_the_chapter_leads_to_its_exercise_at_its_beginning_and_its_end(name):
    cells = read(FOLDER.parent / "chapters" / f"{load(name).chapter}.ipynb").cells
    linking = [i for i, cell in enumerate(cells) if f"](../../exercises/{name}/questions.md)" in cell.source]
    assert linking[0] == 0
    assert "## Exercise" in cells[linking[-1]].source


def test_the_list_of_exercises_is_up_to_date():
    assert (FOLDER / "list.md").read_text("utf-8") == overview()


@pytest.mark.parametrize("master", masters(), ids=NAMES)
def test_code_fits_on_its_page(master):
    """Longer lines would have to be scrolled to be read."""
    cells = [cell for cell in cells_of(master) if cell.cell_type == "code"]
    for shown in (solved, for_learner):
        assert [line for cell in cells for line in shown(cell.source).splitlines() if len(line) > 84] == []


@pytest.mark.parametrize("master", masters(), ids=NAMES)
def test_no_solution_reaches_a_learner(master, project):
    handed_out = "\n".join(cell.source for cell in student(master, project).cells)
    handed_out += (master.parent / "questions.md").read_text("utf-8")
    known = {run for run, _ in split(master.read_text("utf-8"))}
    assert {"text", "solution"} <= known
    for kind, lines in split(master.read_text("utf-8")):
        if kind == "solution":
            assert not [line for line in lines if len(line.strip()) > 20 and line.strip() in handed_out]


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_runs_before_anything_is_answered_and_earns_nothing(name):
    sources = [
        cell.source
        for cell in read(masters()[NAMES.index(name)].with_name("exercise.ipynb")).cells
        if cell.cell_type == "code" and not is_colab_cell(cell) and "receipt" not in cell.source
    ]
    scope = {}
    for source in sources:
        exec(compile(source, "cell", "exec"), scope)
    assert scope["check"].progress().points == 0
    assert set(scope["check"].attempts) == {question.id for question in load(name).questions}


@pytest.mark.parametrize("master", masters(), ids=NAMES)
def test_the_published_solution_earns_every_point(master):
    scope = {}
    for cell in read(master.with_name("solution.ipynb")).cells:
        if cell.cell_type == "code" and not is_colab_cell(cell):
            exec(compile(cell.source, "cell", "exec"), scope)
    assert scope["check"].progress().points == start(master.parent.name).exercise.points


CELL = """def double(x):
    # BEGIN SOLUTION
    return 2 * x
    # END SOLUTION


check("q1", double)"""
BUG = CELL.replace("    # END", "    # INSTEAD\n    # return x * x\n    # END")


def test_a_solution_is_cut_out():
    assert for_learner(CELL).splitlines()[1] == '    raise NotImplementedError("your answer")'
    assert solved(CELL).splitlines()[:2] == ["def double(x):", "    return 2 * x"]


def test_a_bug_to_find_takes_its_place():
    assert for_learner(BUG).splitlines()[:2] == ["def double(x):", "    return x * x"]
    assert solved(BUG) == solved(CELL)


def test_a_value_is_left_open():
    cell = "# BEGIN SOLUTION\nhelp = 2\nanswer = help + 1\n# END SOLUTION\ncheck('q1', answer)"
    assert for_learner(cell).splitlines() == ["answer = None  # your answer", "check('q1', answer)"]


@pytest.mark.parametrize("marker", ["# BEGIN SOLUTION", "# END SOLUTION", "# INSTEAD"])
def test_markers_that_do_not_match_are_refused(marker):
    with pytest.raises(ValueError, match="SOLUTION|INSTEAD"):
        split(CELL.replace(marker, "") if marker in CELL else f"{marker}\n{CELL}")
