"""The rules of the layout: who imports whom, how large a file or a function may be, what a light command loads."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "pipelines", "tuning")  # each may import those before it
FAMILY_FILES = sorted(path for path in (ROOT / "zoo").glob("*.py") if path.stem != "__init__")
FAMILIES = {path.stem for path in FAMILY_FILES}

COMPOSING = {"blip", "clip", "dalle"}  # families made of others
KIN = {("distilbert", "bert"), ("roberta", "bert")}  # families that differ from another in little

FAMILY_LINES = 250
FILE_LINES = 300
FUNCTION_LINES = 40


class Import(NamedTuple):
    """One imported name: `from zoo.core import naming` imports 'zoo.core.naming'."""

    where: str
    module: str
    lazy: bool  # inside a function

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(*folders: str) -> list[Import]:
    """Every import that runs, at module level or in a function; those for type checkers only do not."""
    return [found for path in sources(*folders) for found in imports_in(parse(path), name_of(path))]


def imports_in(node: ast.AST, file: str, *, lazy: bool = False) -> Iterator[Import]:
    where = f"{file}:{getattr(node, 'lineno', 0)}"
    if isinstance(node, ast.Import):
        yield from (Import(where, alias.name, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{where}: a relative import; write the whole name"
        yield from (Import(where, f"{node.module}.{alias.name}", lazy) for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        for child in node.orelse:
            yield from imports_in(child, file, lazy=lazy)
    else:
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from imports_in(child, file, lazy=inside)


def level(name: str) -> int:
    """How far up a module of `zoo` stands: core, then layers and weights, then the families and `zoo` itself."""
    part = name.removeprefix("zoo").lstrip("./").replace("/", ".").partition(".")[0]
    return {"core": 0, "layers": 1, "weights": 1}.get(part, 2)


def test_the_scanner_sees_every_kind_of_import():
    source = """
import numpy as np, keras.ops
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
class Layer:
    import jax
    def call(self):
        try:
            from tensorflow.io import gfile
        except ImportError:
            pass
"""
    found = {(i.module, i.lazy) for i in imports_in(ast.parse(source), "x.py")}
    assert found == {
        ("numpy", False),
        ("keras.ops", False),
        ("typing.TYPE_CHECKING", False),
        ("jax", False),
        ("tensorflow.io.gfile", True),
    }


def test_zoo_stands_on_keras_and_numpy_alone():
    at_once = {"keras", "numpy", "zoo", *sys.stdlib_module_names}
    when_needed = at_once | {"huggingface_hub", "ml_dtypes", "safetensors"}
    assert [i for i in imports("zoo") if i.package not in (when_needed if i.lazy else at_once)] == []


def test_packages_import_only_those_below():
    def above(found: Import, package: str) -> bool:
        return found.package in PACKAGES[PACKAGES.index(package) + 1 :]

    wrong = [i for package in PACKAGES for i in imports(package) if above(i, package)]
    assert [i for i in wrong if not i.where.startswith("pipelines/cli.py:")] == []  # the command line is above all


def test_the_layers_of_zoo_point_one_way():
    at_once = [i for i in imports("zoo") if i.package == "zoo" and not i.lazy]
    assert [i for i in at_once if level(i.module) > level(i.where)] == []


def test_no_family_imports_another():
    found = [
        (path.stem, i.module.split(".")[1])
        for path in FAMILY_FILES
        for i in imports_in(parse(path), path.stem)
        if i.package == "zoo"
    ]
    wrong = {(family, other) for family, other in found if other in FAMILIES and family not in COMPOSING}
    assert wrong - KIN == set()


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    installed = packages_distributions()
    undeclared = [
        i
        for i in imports(*PACKAGES)
        if i.package not in {*PACKAGES, *sys.stdlib_module_names}
        and declared.isdisjoint(map(canonicalize_name, installed.get(i.package, [i.package])))
    ]
    assert undeclared == []


def test_files_keep_to_their_budget():
    def budget(path: Path) -> int:
        return FAMILY_LINES if path in FAMILY_FILES else FILE_LINES

    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*PACKAGES, "tests")}
    assert {name_of(path): count for path, count in lines.items() if count > budget(path)} == {}


def test_functions_keep_to_their_budget():
    """Lines of the body; a docstring and a signature are not logic, and a command's options make a long one."""
    found = {
        f"{name_of(path)}:{node.lineno} {node.name}": body_lines(node)
        for path in sources(*PACKAGES, "tests")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in found.items() if count > FUNCTION_LINES} == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def heavy_imports_of(code: str, *arguments: str) -> tuple[set[str], str]:
    """Which of Keras and TensorFlow `code` leaves in sys.modules of a new process, and what it printed."""
    at_exit = "atexit.register(lambda: print(*{'keras', 'tensorflow'} & set(sys.modules), file=sys.stderr))"
    done = subprocess.run(
        [sys.executable, "-c", f"import atexit, sys; {at_exit}; {code}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()), done.stdout


def test_importing_zoo_loads_neither_keras_nor_tensorflow():
    assert heavy_imports_of("import zoo; print(zoo.create.__name__)") == (set(), "create\n")
    assert heavy_imports_of("sys.modules['keras'] = sys") == ({"keras"}, "")  # the check sees what is there


@pytest.mark.parametrize(
    ("command", "shown"),
    [("--help", "export"), ("fit --help", "--images"), ("list", "mobilenet_v2"), ("show resnet50", "25,557,032")],
)
def test_a_light_command_loads_neither_keras_nor_tensorflow(command, shown):
    heavy, printed = heavy_imports_of("from pipelines.cli import main; main()", *command.split())
    assert shown in printed
    assert heavy == set()
