"""Imports run one way, ui -> operators -> engine, and the engine knows nothing of Blender."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("engine", "operators", "ui")
ALLOWED = {"engine": {"engine"}, "operators": {"operators", "engine"}, "ui": set(ROOMS)}
BLENDER = {"bpy", "bpy_extras", "bl_ui", "bl_ext", "addon_utils", "mathutils", "gpu", "blf", "cycles"}
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
Import = ast.Import | ast.ImportFrom


def imports(tree: ast.AST) -> Iterator[Import]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Import))


def run_at_import(tree: ast.AST) -> Iterator[Import]:
    """The imports that are carried out when the module is; those for type checkers are not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Import):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from run_at_import(node)


def targets(node: Import, path: Path) -> list[tuple[str, ...]]:
    """What is imported, as paths from the repository root; names from elsewhere as they are."""
    if isinstance(node, ast.Import):
        return [tuple(alias.name.split(".")) for alias in node.names]
    module = tuple(node.module.split(".")) if node.module else ()
    if not node.level:
        return [module]
    package = path.relative_to(ROOT).parts[: -node.level]
    return [(*package, *module)] if module or package else [(alias.name,) for alias in node.names]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
        for target in targets(node, path):
            where = f"{relative(path)}:{node.lineno} imports {'.'.join(target)}"
            if isinstance(node, ast.ImportFrom) and node.level:
                assert target[0] in ALLOWED[room], where
            else:
                assert target[0] not in ROOMS, f"{where}: an extension imports its own parts relatively"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.is_relative_to(ROOT / "engine")], ids=relative
)
def test_engine_is_free_of_blender(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    is_worker = "worker" in path.relative_to(ROOT).parts
    for node in run_at_import(tree) if is_worker else imports(tree):
        for target in targets(node, path):
            assert target[0] not in BLENDER, f"{relative(path)}:{node.lineno} imports {target[0]}"


def test_worker_needs_nothing_but_python_and_blender() -> None:
    """It runs on nodes that have nothing else, and without the rest of the engine."""
    import sys

    for path in (ROOT / "engine" / "worker").glob("*.py"):
        for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
            for target in targets(node, path):
                known = target[:2] == ("engine", "worker") or target[0] in sys.stdlib_module_names | BLENDER
                assert known, f"{relative(path)}:{node.lineno} imports {'.'.join(target)}"


def test_only_ssh_imports_paramiko() -> None:
    found = {
        relative(path)
        for path in SOURCES
        for node in imports(ast.parse(path.read_text(encoding="utf-8")))
        for target in targets(node, path)
        if target[0] == "paramiko"
    }
    names = ("host_certificate", "ssh", "ssh_keys", "ssh_login", "ssh_reader")
    assert found == {f"engine/{name}.py" for name in names}


def test_root_imports_nothing_at_module_level() -> None:
    """Plain pytest imports the root package, where there is no Blender."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert [target for node in run_at_import(tree) for target in targets(node, ROOT / "__init__.py")] in (
        [],
        [("__future__",)],
    )
