"""The rooms of the repository: which module may import which, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "modeling_binder"
MODULES = sorted(PACKAGE.rglob("*.py"))
TRAVELLING = sorted(PACKAGE.glob("*_binder.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Yield (module, line, at the top level) of every import, relative ones resolved."""
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
            for alias in node.names:  # `from .x import y`: y may be a module
                nested = f"{base}.{alias.name}"
                yield nested if is_module(nested) else base, node.lineno, id(node) not in inner


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def graph():
    """Imports at the top level between the modules of the package."""
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


def test_a_cycle_would_be_seen(tmp_path, monkeypatch):
    """The walk follows relative imports and ignores those inside functions."""
    package = tmp_path / "modeling_binder"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from .b import x\n")
    (package / "b.py").write_text("def f():\n    from .a import y\n\nfrom . import a\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    found = {(target, top) for target, _, top in imports_of(package / "b.py")}
    assert found == {("modeling_binder.a", False), ("modeling_binder.a", True)}


@pytest.mark.parametrize("path", TRAVELLING, ids=lambda path: path.name)
def test_travelling_files_import_each_other_alone(path):
    """They are copied to the Hub with a checkpoint, where the rest of the package is missing."""
    names = {other.stem for other in TRAVELLING}
    for target, line, top in imports_of(path):
        if target.startswith("modeling_binder") and top:
            assert target.rpartition(".")[2] in names, f"{path.name}:{line} imports {target}"


def test_arrows_point_one_way():
    """The package knows nothing about training and demo; the core knows nothing about the rooms above it."""
    above = {
        "finetuning": ("backends", "integrations", "cli"),
        "hub": ("backends", "integrations", "cli"),
        "backends": ("integrations", "cli"),
        "integrations": ("cli",),
    }
    for path in MODULES:
        room = path.relative_to(PACKAGE).parts[0]
        for target, line, top in imports_of(path):
            first = target.split(".")[0]
            assert first not in ("training", "demo", "tests"), f"{path}:{line} imports {target}"
            if top and first == "modeling_binder" and target.count("."):
                assert target.split(".")[1] not in above.get(room, ()), f"{path}:{line} imports {target}"


def test_no_test_module_imports_from_another():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for target, line, _ in imports_of(path):
            last = target.rpartition(".")[2]
            assert not (target.startswith("tests.") and last.startswith("test_")), f"{path}:{line} imports {target}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_one_concept_a_file(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
