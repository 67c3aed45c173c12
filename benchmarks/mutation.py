"""Mutation testing: change one line of the Transformer, and see which checks notice.

    OMP_NUM_THREADS=1 python -m benchmarks.mutation   # about half an hour on one core; writes the committed table

Each *mutant* is the package with one small change in one of the seven modules of the model. Most changes are made by
rule, at every place where the rule applies (`variants`); the others are mistakes that people make (`BY_HAND`). Five
kinds of checks meet each mutant: the models run, they learn a batch by heart, they have four properties, a block agrees
with torch's (as the chapter `practice/source_code_tour` defines these), and the tests of the package for these modules.
The tests are asked twice: without and with the file that was written because of this table (`CLOSED`). Survivors also
meet tests of other modules (`ELSEWHERE`). A mutant that no test of these modules notices is explained in `EQUIVALENT`,
or it is a hole. The table is `fmcourse/results/mutation.json`.

A mutant lives in a process of its own, forked from one that has torch loaded; its source never reaches the disk.
"""

import ast
import contextlib
import gc
import hashlib
import io
import multiprocessing
import os
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.from_chapter import definitions, names_of, statements
from benchmarks.mutation_notes import BY_HAND, EQUIVALENT
from benchmarks.sweep import ROOT, Sweep, write_table

CHAPTER = "practice/source_code_tour"
PACKAGE, TESTS = ROOT / "fmcourse", ROOT / "tests" / "package"
# Each module with its own test file, which is asked first.
MODULES = {
    "masks": "test_masks_and_cache",
    "cache": "test_masks_and_cache",
    "attention": "test_attention",
    "positions": "test_positions",
    "layers": "test_layers",
    "initialise": "test_transformer",
    "transformer": "test_transformer",
}
FILES = (
    "test_attention",
    "test_positions",
    "test_layers",
    "test_masks_and_cache",
    "test_transformer",
    "test_beam_search",
)
CLOSED = "test_closed_holes"
ELSEWHERE = ("test_pretrained", "test_generation", "test_lora")  # of other modules, which use these: asked last
PROPERTIES = """
    future_is_invisible_and_past_matters padding_changes_nothing reading_in_pieces_changes_nothing
    order_matters_where_it_should
""".split()
CHECKS = "SIZE CHOICES every_model ask randomised runs learns copy_into agrees_with_torch " + " ".join(PROPERTIES)
LEVELS = ("runs", "learns", "properties", "agrees_with_torch")
SECONDS = 600  # then a mutant counts as noticed: it never ends


@dataclass(frozen=True)
class Mutant:
    """One change: which rule made it, where, and the module's whole new source."""

    module: str
    kind: str
    line: int
    before: str
    after: str
    source: str


# --------------------------------------------------------------------------------------------------------------- rules

COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
OPERATOR: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
LIBRARIES = {"torch", "nn", "math"}


def variants(node: ast.AST, text: Any) -> Iterator[tuple[str, ast.AST, str]]:
    """Every change that the rules make at this node: kind, the part that is replaced, and by what."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            yield "comparison", node, f"{text(left)} {COMPARE[type(op)]} {text(right)}"
        case ast.BoolOp(op=op, values=[left, *_, right]):
            word = "or" if isinstance(op, ast.And) else "and"
            yield "condition", node, f"({f' {word} '.join(text(value) for value in node.values)})"
        case ast.IfExp(test=test) | ast.If(test=test) if not _turned_elsewhere(test):
            yield "condition", test, f"not ({text(test)})"
        case ast.UnaryOp(operand=inner):
            yield "operator", node, text(inner)
        case ast.BinOp(left=left, op=ast.MatMult(), right=right):
            yield "operator", node, f"({text(right)} @ {text(left)})"
        case ast.BinOp(left=left, op=op, right=right):
            yield "operator", node, f"({text(left)} {OPERATOR[type(op)]} {text(right)})"
        case ast.Constant(value=bool(value)):
            yield "constant", node, str(not value)
        case ast.Constant(value=int(value)):
            yield "constant", node, str(value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", node, str(2 * value or 1.0)
    if isinstance(node, ast.Call):
        yield from call_variants(node, text)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "step left out", node, "pass"
    if isinstance(node, ast.AugAssign | ast.Raise):
        yield "step left out", node, "pass"
    if isinstance(node, ast.Assign):
        names = {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        again = names & {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
        deep = isinstance(node.targets[0], ast.Attribute) and text(node.targets[0]).count(".") > 1
        if (again - {"self"}) or deep:
            yield "step left out", node, "pass"


def _turned_elsewhere(test: ast.expr) -> bool:
    """Whether the rule for comparisons, or that for `not`, turns this condition round already."""
    turned = ast.Is | ast.IsNot | ast.Eq | ast.NotEq | ast.In | ast.NotIn
    return isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and isinstance(test.ops[0], turned))


def call_variants(node: ast.Call, text: Any) -> Iterator[tuple[str, ast.AST, str]]:
    """A call without one of its named arguments, and what went in instead of what comes out."""
    arguments = [*map(text, node.args), *map(text, node.keywords)]
    for keyword in node.keywords:
        if keyword.arg is not None:
            rest = ", ".join(part for part in arguments if part != text(keyword))
            yield "argument left out", node, f"{text(node.func)}({rest})"
    if not isinstance(node.func, ast.Attribute):
        return
    base = text(node.func.value)
    if base in ("self", "F"):
        if len(node.args) >= 1 and not isinstance(node.args[0], ast.Starred):
            yield "call left out", node, text(node.args[0])
    elif base != "super()" and base.split(".")[0] not in LIBRARIES:
        yield "call left out", node, base


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that compute: no annotation, no text of an error message, no documentation."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        left_out: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef):
            left_out = [node.returns, *node.decorator_list]
        elif isinstance(node, ast.arg | ast.AnnAssign):
            left_out = [node.annotation]
        elif isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
            continue
        waiting += [child for child in ast.iter_child_nodes(node) if child not in left_out]


def mutants(module: str) -> list[Mutant]:
    """All changes of one module, no two alike and none that compiles to what was there."""
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def text(node: ast.AST) -> str:
        return ast.get_source_segment(source, node) or ""

    def make(kind: str, first: int, last: int, new: str) -> Mutant:
        changed = source[:first] + new + source[last:]
        line = source.count("\n", 0, first)
        end = source.find("\n", last)
        before = " ".join(source[starts[line] : end].split())
        after = " ".join((source[starts[line] : first] + new + source[last:end]).split())
        return Mutant(module, kind, line + 1, before, after, changed)

    made = []
    for node in places(tree):
        for kind, part, new in variants(node, text):
            first = starts[part.lineno - 1] + part.col_offset
            last = starts[part.end_lineno - 1] + part.end_col_offset
            made.append(make(kind, first, last, new))
    for where, name, old, new in BY_HAND:
        if where == module:
            if source.count(old) != 1:
                raise SystemExit(f"{name}: {old!r} stands {source.count(old)} times in {module}.py, not once")
            made.append(make(f"by hand: {name}", source.index(old), source.index(old) + len(old), new))
    seen, different = {ast.dump(tree)}, []
    for mutant in sorted(made, key=lambda one: (not one.kind.startswith("by hand"), one.line)):
        try:
            shape = ast.dump(ast.parse(mutant.source))
        except SyntaxError:  # such a change is noticed before the code runs
            continue
        if shape not in seen:
            seen.add(shape)
            different.append(mutant)
    return different


# -------------------------------------------------------------------------------------------------------------- checks


class Changed(SourceFileLoader):
    """Loads a module from a text instead of its file."""

    text = ""

    def get_code(self, fullname: str) -> Any:
        """The code of the changed source."""
        return compile(self.text, self.path, "exec")


class Finder:
    """Finds the one changed module; all others are found as ever."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The import system asks here first."""
        if name != f"fmcourse.{self.mutant.module}":
            return None
        file = str(PACKAGE / f"{self.mutant.module}.py")
        loader = Changed(name, file)
        loader.text = self.mutant.source
        return spec_from_file_location(name, file, loader=loader)


class FirstFailure:
    """A pytest plugin: the name of the first test that fails."""

    name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called after each part of each test."""
        if report.failed and not self.name:
            self.name = report.nodeid.split("/")[-1]

    def pytest_collectreport(self, report: Any) -> None:
        """Called after each file was read."""
        if report.failed and not self.name:
            self.name = report.nodeid.split("/")[-1] + " (cannot be imported)"


def first_failure(files: tuple[str, ...]) -> str:
    """The first test that fails in these files, one after the other, or nothing."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", "-p", "no:xdist"]
    for name in files:
        plugin = FirstFailure()
        code = pytest.main([*options, str(TESTS / f"{name}.py")], plugins=[plugin])
        if code:
            return plugin.name or f"pytest ended with {code}"
    return ""


def chapters_checks() -> dict[str, Any]:
    """The chapter's checks, over the package as it is now."""
    from fmcourse import cache, config, masks, transformer

    given = {"torch": torch, "nn": nn, "F": F, "product": product, "partial": partial}
    given["causal_mask"] = masks.causal_mask
    given |= {"KVCache": cache.KVCache, "TransformerConfig": config.TransformerConfig}
    given |= {kind: getattr(transformer, kind) for kind in ("GPT", "BERT", "Seq2Seq")}
    return definitions(CHAPTER, CHECKS, given)


def holds(check: Any) -> bool:
    """Whether the check comes to the end and says yes."""
    try:
        return bool(check())
    except Exception:
        return False


def examine(mutant: Mutant, files: tuple[str, ...], pipe: Any) -> None:
    """In a process of its own: meet the mutant with these test files, or the chapter's checks; send the outcome."""
    gc.disable()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in [name for name in sys.modules if name.split(".")[0] == "fmcourse"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder(mutant))
    os.chdir(ROOT)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if files:
            pipe.send({"test": first_failure(files)})
            return
        try:
            checks = chapters_checks()
        except Exception:
            checks = dict.fromkeys((*LEVELS, *PROPERTIES), lambda: False)
        found: dict[str, Any] = {level: holds(checks[level]) for level in ("runs", "agrees_with_torch")}
        found["learns"] = found["runs"] and holds(checks["learns"])
        found["properties"] = [name for name in PROPERTIES if not holds(checks[name])]
    pipe.send(found)


def meet(mutant: Mutant, files: tuple[str, ...] = ()) -> dict[str, Any]:
    """What these test files say of the mutant, or the chapter's checks; one that ends in no answer was noticed."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=examine, args=(mutant, files, theirs))
    process.start()
    theirs.close()
    found: dict[str, Any] = {}
    if ours.poll(SECONDS):
        with contextlib.suppress(EOFError):
            found = ours.recv()
    if not found:
        process.kill()
        found = {**dict.fromkeys(LEVELS, False), "properties": list(PROPERTIES), "test": "never ends, or crashes"}
    process.join()
    return found


# --------------------------------------------------------------------------------------------------------------- table


def caught(found: dict[str, Any]) -> dict[str, bool]:
    """Which level of checks noticed the mutant."""
    noticed = {level: not found[level] for level in ("runs", "learns", "agrees_with_torch")}
    noticed["properties"] = bool(found["properties"])
    noticed["four"] = any(noticed.values())
    noticed["tests_before"] = bool(found["test"])
    noticed["tests_after"] = bool(found["test"] or found.get("closed"))
    return noticed


def digest_of(*parts: Path | str) -> str:
    """What these files and texts hold, in a few letters."""
    data = b"".join(part.encode() if isinstance(part, str) else part.read_bytes() for part in parts)
    return hashlib.sha256(data).hexdigest()[:12]


def main(limit: int | None = None) -> None:
    """Meet what was not met yet, and write the table; an interrupted run goes on with the next mutant."""
    for module in ("bloom", "llama", "gpt2", "bert", "bart"):  # once, before the forks
        import_module(f"transformers.models.{module}.modeling_{module}")
    checks = [ast.dump(node) for node in statements(CHAPTER) if set(CHECKS.split()) & set(names_of(node))]
    gc.collect()
    gc.freeze()
    code = [PACKAGE / f"{name}.py" for name in (*MODULES, "config", "checks")]
    digest = {"checks": digest_of(*code, *checks)}
    for stage, files in {"tests": (*FILES, "builders"), "closed": (CLOSED,), "elsewhere": ELSEWHERE}.items():
        digest[stage] = digest_of(*code, *(TESTS / f"{name}.py" for name in files))
    unchanged = Mutant("attention", "none", 0, "", "", (PACKAGE / "attention.py").read_text(encoding="utf-8"))
    healthy = {**meet(unchanged), **meet(unchanged, (*FILES, CLOSED, *ELSEWHERE))}
    if any(caught(healthy).values()):
        raise SystemExit(f"the package itself does not pass: {healthy}")
    everything = [mutant for module in MODULES for mutant in mutants(module)]
    random.Random(0).shuffle(everything)  # so that an unfinished table is a fair sample
    everything.sort(key=lambda one: not one.kind.startswith("by hand"))
    sweep, rows = Sweep("mutation"), []
    for one in tqdm(everything[:limit], unit="mutant", disable=None):
        key = f"{one.module} {one.line} {one.kind}: {one.before} -> {one.after}"
        own = MODULES[one.module]
        stages = {"checks": (), "tests": (own, *(name for name in FILES if name != own))}
        found: dict[str, Any] = {}
        for stage, files in stages.items():
            found |= sweep(f"{stage} {digest[stage]} {key}", lambda one=one, files=files: meet(one, files))
        if not found["test"]:
            for stage, files in {"closed": (CLOSED,), "elsewhere": ELSEWHERE}.items():
                run = sweep(f"{stage} {digest[stage]} {key}", lambda one=one, files=files: meet(one, files))
                found[stage] = run["test"]
        rows.append({"mutant": one, "found": found, "caught": caught(found)})
    write_table("mutation", {"possible": len(everything), **table(rows)})


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by module and by kind of change, the mistakes made by hand, and every survivor with its reason."""
    levels = list(caught(rows[0]["found"]))

    def counts(key: Any) -> list[dict[str, Any]]:
        groups: dict[str, list[dict[str, bool]]] = {}
        for row in rows:
            groups.setdefault(key(row["mutant"]), []).append(row["caught"])
        return [
            {"name": name, "made": len(group), **{level: sum(one[level] for one in group) for level in levels}}
            for name, group in groups.items()
        ]

    survivors, unexplained = [], []
    for row in rows:
        one: Mutant = row["mutant"]
        if not row["found"]["test"]:
            place = {"module": one.module, "line": one.line, "kind": one.kind, "before": one.before, "after": one.after}
            reason = EQUIVALENT.get((one.module, one.after))
            closed = row["found"].get("closed", "")
            elsewhere = row["found"].get("elsewhere", "")
            notes = {"closed_by": closed, "elsewhere": elsewhere, "reason": "" if closed else reason or ""}
            survivors.append({**place, **notes})
            if not closed and not reason:
                unexplained.append(f"{one.module}:{one.line} [{one.kind}] {one.before}  ->  {one.after}")
    print("\n".join(["survivors without a reason:", *unexplained]))
    by_hand = [
        {
            "name": row["mutant"].kind.removeprefix("by hand: "),
            "module": row["mutant"].module,
            "after": row["mutant"].after,
            "properties": row["found"]["properties"],
            **row["caught"],
            "test": row["found"]["test"] or row["found"].get("closed", ""),
        }
        for row in rows
        if row["mutant"].kind.startswith("by hand")
    ]
    return {
        "command": " ".join(["OMP_NUM_THREADS=1 python -m benchmarks.mutation", *sys.argv[1:]]),
        "environment": environment("pytest", "transformers"),
        "unexplained": len(unexplained),
        "modules": counts(lambda one: one.module),
        "kinds": counts(lambda one: one.kind.split(":")[0]),
        "by_hand": by_hand,
        "survivors": survivors,
        "tests": {module: {"file": f"{name}.py", "functions": functions(name)} for module, name in MODULES.items()},
        "closed": {"file": f"{CLOSED}.py", "functions": functions(CLOSED)},
    }


def functions(name: str) -> int:
    """How many test functions the file has."""
    tree = ast.parse((TESTS / f"{name}.py").read_text(encoding="utf-8"))
    return sum(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree.body)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
