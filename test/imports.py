"""Which test files need Jittor or start servers, found in their imports: so the markers need no lists.

A test that starts a process with Jittor has the marker `jittor` itself, and one that starts many processes or
a compiler has `process`.
"""
from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parents[1]
MAKERS = ("make_model", "make_training")                # helpers of tests that load Jittor
RUNNERS = ("run_tool", "start_tool")                    # those that run the tool with this name
SERVERS = ("paint_client", "paint_browser")             # helpers that start a server or a browser
FOLDERS = (ROOT, ROOT / "test", ROOT / "tools")         # where a module's name is looked up


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _helpers(tree: ast.AST) -> Iterator[str]:
    """The tools that a test runs by these helpers; "ldm.backend" if a helper always loads Jittor."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in RUNNERS and node.args and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value
            elif name in RUNNERS or name in MAKERS:
                yield "ldm.backend"


def _file(name: str) -> Path | None:
    candidates = (folder / f"{name.replace('.', '/')}{end}" for folder in FOLDERS
                  for end in (".py", "/__init__.py"))
    return next((path for path in candidates if path.is_file()), None)


@functools.lru_cache(maxsize=None)
def _imports(path: Path, everywhere: bool) -> frozenset[Path]:
    """The files of this repository that the file imports; everywhere: in its functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {name for node in (ast.walk(tree) if everywhere else tree.body) for name in _names(node)}
    if everywhere:
        names |= set(_helpers(tree))
    if "ldm.Pipeline" in names:                         # the package loads it on demand
        names.add("ldm.backend")
    names |= {name[:i] for name in names for i, letter in enumerate(name) if letter == "."}
    return frozenset(file for file in map(_file, names) if file)


@functools.lru_cache(maxsize=None)
def needs_jittor(path: Path) -> bool:
    """Whether a test file, or a tool that it runs, imports a module whose import loads ldm.backend.

    In test files and tools, imports in functions count, too.
    """
    seen: set[Path] = set()
    todo = set(_imports(path, True))
    while todo:
        file = todo.pop()
        seen.add(file)
        todo |= _imports(file, file.parent == ROOT / "tools") - seen
    return ROOT / "ldm/backend.py" in seen


@functools.lru_cache(maxsize=None)
def starts_servers(path: Path) -> bool:
    """Whether a test file imports the helpers that start the page's server or a browser."""
    return not _imports(path, True).isdisjoint(ROOT / "test" / f"{name}.py" for name in SERVERS)
