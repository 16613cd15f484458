"""Every public function of the package and of the tools says the types of its arguments and of its result."""
import ast

import pytest
from conftest import ROOT

FILES = sorted([*ROOT.glob("ldm/**/*.py"), *ROOT.glob("tools/*.py")])


def is_public(name):
    return not name.startswith("_") or name in ("__init__", "__call__")


def untyped(tree, prefix=""):
    """Names of the public functions in a module or class that lack a type."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from untyped(node, f"{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_public(node.name):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            is_static = any(getattr(d, "id", "") == "staticmethod" for d in node.decorator_list)
            named = named[bool(prefix and not is_static):]              # without self
            if node.returns is None or any(one and one.annotation is None for one in named):
                yield f"{prefix}{node.name}"
        elif isinstance(node, (ast.If, ast.Try)):
            yield from untyped(node, prefix)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_have_types(path):
    assert list(untyped(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("source, found", [
    ("def f(a: int) -> int: ...", []), ("def f(a) -> int: ...", ["f"]), ("def f(a: int): ...", ["f"]),
    ("def _f(a): ...", []), ("def f(*a, b: int) -> int: ...", ["f"]),
    ("class A:\n    def __init__(self) -> None: ...\n    def f(self): ...\n    def _g(self): ...", ["A.f"]),
    ("class A:\n    @staticmethod\n    def f(a) -> int: ...", ["A.f"]),
    ("try:\n    def f(): ...\nexcept ImportError: pass", ["f"])])
def test_a_missing_type_is_found(source, found):
    assert list(untyped(ast.parse(source))) == found
