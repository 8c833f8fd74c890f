"""What an installation gets: the wheel's files, bounded dependencies, and constraints that pin all of them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import zoo

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "pipelines", "tuning")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINNED = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in CONSTRAINTS}

INSTALLED_BY_MAKE = [
    Requirement(line)
    for line in (*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["dev"])
    if "transferzoo" not in line
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: what an earlier build left in the tree must not get in."""
    copy, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", built, copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("transferzoo-*.whl")
    return path


def test_the_wheel_holds_every_module_and_no_test(wheel):
    modules = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
    assert packed == modules


@pytest.mark.parametrize(
    "name",
    [
        "tuning/report.html.jinja",
        "zoo/catalog.json",
        "zoo/weights/bundled/LICENSE.torchvision",
        "zoo/weights/bundled/README.md",
        "zoo/weights/bundled/mobilenet_v2.tv_in1k.float16.safetensors",
    ],
)
def test_the_wheel_holds_the_data_unchanged(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read(name)
    assert hashlib.sha256(packed).hexdigest() == hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert wheel.name == f"transferzoo-{zoo.__version__}-py3-none-any.whl"
    assert "zoo = pipelines.cli:main" in texts["entry_points.txt"]
    assert "License-Expression: Apache-2.0 AND BSD-3-Clause" in texts["METADATA"]
    assert texts["LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_command_runs_from_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import sys, zoo; print(zoo.__file__, file=sys.stderr); from pipelines.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, "list"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == str(tmp_path / "zoo" / "__init__.py")
    assert "mobilenet_v2" in done.stdout


def test_every_dependency_is_bounded_on_both_sides():
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    bounds = {line: {bound.operator for bound in Requirement(line).specifier} for line in lines}
    assert [line for line, found in bounds.items() if found != {">=", "<"} and line != "transferzoo[test]"] == []


def test_constraints_are_names_and_versions_only():
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)] == []


def test_constraints_fit_every_bound():
    pins = {str(r): PINNED.get(canonicalize_name(r.name), "0") for r in INSTALLED_BY_MAKE}  # no bound admits 0
    assert {line: pin for line, pin in pins.items() if not Requirement(line).specifier.contains(pin)} == {}


def test_constraints_pin_what_the_dependencies_need_in_turn():
    waiting, reached = {(canonicalize_name(r.name), frozenset(r.extras)) for r in INSTALLED_BY_MAKE}, set()
    while waiting:
        reached.add(current := waiting.pop())
        waiting |= needs(*current) - reached
    assert {name for name, _ in reached} - set(PINNED) == set()


def needs(name: str, extras: frozenset[str]) -> set[tuple[str, frozenset[str]]]:
    """What an installed distribution asks for on this Python and system."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        raise AssertionError(f"{name} is not installed; run: make test") from None
    return {
        (canonicalize_name(r.name), frozenset(r.extras))
        for r in map(Requirement, lines)
        if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    }


def test_nobody_needs_torch():
    assert PINNED.keys().isdisjoint({"torch", "torchvision", "timm", "transformers"})


def test_ci_can_be_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
