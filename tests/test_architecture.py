"""Tests of the package's structure: which modules a module may import, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "modeling_binder"
MODULES = sorted(PACKAGE.rglob("*.py"))
TRAVELLING = sorted(PACKAGE.glob("*_binder.py"))  # files that are copied to the Hub with a checkpoint


def name_of(path):
    """Return the dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Yield the module's absolute name and the line of each import, and whether the import is outside functions."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) not in inner
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                above = parents[: len(parents) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:  # in `from .x import y`, y may be a module
                nested = f"{base}.{alias.name}"
                yield nested if is_module(nested) else base, node.lineno, id(node) not in inner


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def graph():
    """Return a dictionary: module of the package -> modules of the package that it imports outside functions."""
    edges = {}
    for path in MODULES:
        targets = {target for target, _, top in imports_of(path) if top and target.startswith("modeling_binder.")}
        edges[name_of(path)] = targets - {name_of(path)}
    return edges


def test_no_import_cycle():
    edges, done = graph(), set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in edges.get(module, ()):
                visit(target, [*path, module])
            done.add(module)

    for module in edges:
        visit(module, [])


def test_relative_imports_are_resolved_and_imports_in_functions_are_marked(tmp_path, monkeypatch):
    package = tmp_path / "modeling_binder"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from .b import x\n")
    (package / "b.py").write_text("def f():\n    from .a import y\n\nfrom . import a\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    found = {(target, top) for target, _, top in imports_of(package / "b.py")}
    assert found == {("modeling_binder.a", False), ("modeling_binder.a", True)}


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.name)
def test_travelling_files_import_only_travelling_files(path):
    """A checkpoint on the Hub contains the files `*_binder.py`, but not the rest of the package."""
    names = {other.stem for other in TRAVELLING}
    for target, line, top in imports_of(path):
        if target.startswith("modeling_binder") and top:
            assert target.rpartition(".")[2] in names, f"{path.name}:{line} imports {target}"


def test_subpackages_import_each_other_in_one_direction():
    """The package does not import training, demo or tests.

    A subpackage does not import the subpackages that are built on it.
    """
    above = {  # subpackage -> subpackages that it must not import
        "drawing": ("finetuning", "hub", "annotating", "backends", "integrations", "serving", "cli"),
        "finetuning": ("backends", "integrations", "serving", "cli"),
        "hub": ("backends", "integrations", "serving", "cli"),
        "annotating": ("backends", "integrations", "serving", "cli"),
        "backends": ("integrations", "serving", "cli"),
        "integrations": ("serving", "cli"),
        "serving": ("cli",),
    }
    for path in MODULES:
        subpackage = path.relative_to(PACKAGE).parts[0]
        for target, line, top in imports_of(path):
            first = target.split(".")[0]
            assert first not in ("training", "demo", "tests"), f"{path}:{line} imports {target}"
            if top and first == "modeling_binder" and target.count("."):
                assert target.split(".")[1] not in above.get(subpackage, ()), f"{path}:{line} imports {target}"


def test_no_test_module_imports_another_test_module():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for target, line, _ in imports_of(path):
            last = target.rpartition(".")[2]
            assert not (target.startswith("tests.") and last.startswith("test_")), f"{path}:{line} imports {target}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_has_at_most_450_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
