"""Many machines: GNU parallel goes on where it stopped, and every index of the Kubernetes job does its shard."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from answers import submission
from test_grader import files
from test_hostile import EXERCISE, notebook

from fmcourse.grading.grader import grade_class
from tools.project import ROOT, Project

DEPLOY = ROOT / "exercises" / "deploy"
IDS = [question.id for question in EXERCISE.questions]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.fixture
def course(tmp_path):
    """Four students, the seed, and the same class graded in one go."""
    (tmp_path / "submissions").mkdir()
    for student in range(4):
        cells = submission("attention", IDS[: 2 * student]).cells
        (tmp_path / "submissions" / f"s{student}.ipynb").write_text(json.dumps(notebook(cells)))
    (tmp_path / "seed.txt").write_text("secret")
    grade_class(tmp_path / "submissions", EXERCISE, "secret", tmp_path / "whole", progress=False)
    return tmp_path


def grade(course, *more):
    command = [sys.executable, "-m", "fmcourse", "grade", "submissions", "--exercise", "attention"]
    command += ["--seed-file", "seed.txt", "--out", "graded", *more]
    subprocess.run(command, cwd=course, capture_output=True, check=True)


def parallel(course, *more):
    command = "fmcourse grade submissions --exercise attention --seed-file seed.txt --out graded --shard {}/4"
    done = subprocess.run(
        [shutil.which("parallel"), "--jobs", "2", "--joblog", "log", *more, command, ":::", "0", "1", "2", "3"],
        cwd=course,
        env={**os.environ, "PATH": PATH},
        capture_output=True,
        check=False,
    )
    return done.returncode, [line.split("\t") for line in (course / "log").read_text().splitlines()[1:]]


def test_gnu_parallel_resumes_what_failed(course):
    (course / "seed.txt").rename(course / "lost")
    failed, log = parallel(course)
    assert failed == 4
    assert {entry[6] for entry in log} == {"1"}
    (course / "lost").rename(course / "seed.txt")
    begun = (course / "log").read_text().splitlines(keepends=True)[:3]
    (course / "log").write_text("".join(begun))  # as if two had not been begun
    failed, log = parallel(course, "--resume-failed")
    assert failed == 0
    assert sorted(entry[6] for entry in log[2:]) == ["0"] * 4
    again, same = parallel(course, "--resume-failed")
    assert (again, len(same)) == (0, len(log))  # nothing was left to do
    grade(course, "--resume")
    assert files(course / "graded") == files(course / "whole")


def test_every_index_of_the_kubernetes_job_grades_its_shard(course):
    job = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    spec = job["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert spec["completionMode"] == "Indexed"
    assert f"$JOB_COMPLETION_INDEX/{spec['completions']}" in container["command"][-1]
    script = container["command"][-1].replace(f"/{spec['completions']}", "/4")
    places = {"/seed": course, "/graded": course / "graded", "/submissions": course / "submissions"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == set(places)
    for path, place in places.items():
        script = script.replace(f" {path}", f" {place}")
    for index in range(4):
        environment = {**os.environ, "PATH": PATH, "JOB_COMPLETION_INDEX": str(index)}
        subprocess.run([*container["command"][:-1], script], env=environment, capture_output=True, check=True)
    grade(course, "--resume")
    assert files(course / "graded") == files(course / "whole")


@pytest.mark.parametrize("name", ["Dockerfile", "classroom.yml"])
def test_the_release_is_the_one_of_the_book(name):
    project = Project.load()
    text = (DEPLOY / name).read_text("utf-8")
    assert f"git+{project.repository}@{project.release}" in text


def test_the_image_of_the_job_is_the_one_that_is_built():
    release = Project.load().release.removeprefix("v")
    assert f"fmcourse-grader:{release} " in (DEPLOY / "Dockerfile").read_text("utf-8")
    assert f"image: fmcourse-grader:{release}\n" in (DEPLOY / "kubernetes.yaml").read_text("utf-8")


def test_the_workflow_for_classrooms_checks_the_notebook(tmp_path):
    """Its last step, run here: it fails until everything is right, and shows the progress."""
    steps = yaml.safe_load((DEPLOY / "classroom.yml").read_text("utf-8"))["jobs"]["check"]["steps"]
    shutil.copy(ROOT / "exercises" / "attention" / "exercise.ipynb", tmp_path)
    environment = {**os.environ, "PATH": PATH}
    done = subprocess.run(
        steps[-1]["run"], shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "0 of 18 points in these checks" in done.stdout
    shutil.copy(ROOT / "exercises" / "attention" / "solution.ipynb", tmp_path / "exercise.ipynb")
    subprocess.run(steps[-1]["run"], shell=True, cwd=tmp_path, env=environment, capture_output=True, check=True)
