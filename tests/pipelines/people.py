"""A small table of people in a CSV file, and what the tests read from a loaded one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines import tables
from pipelines.data import Tables
from zoo.layers.table import Category, Number

PARTS = ("train", "validation", "test")


def write(path: Path, rows) -> str:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def people(count: int = 60) -> list[list]:
    """Ages, towns and whether somebody came: rows with a header."""
    random = np.random.default_rng(0)
    towns = random.choice(["Ulm", "Köln", "Bonn"], count)
    ages = random.integers(18, 80, count)
    return [
        ["age", "town", "came"],
        *([age, town, "yes" if age > 40 else "no"] for age, town in zip(ages, towns, strict=True)),
    ]


def load(path, **options) -> tables.TableData:
    task = options.pop("task", None)
    seed = options.pop("seed", 0)
    return tables.load(Tables(str(path), **{"target": "came", **options}), task=task, seed=seed)


def columns(data: tables.TableData) -> dict[str, Number | Category]:
    return {column.name: column for column in data.columns.columns}


def cells(data: tables.TableData, part: str) -> list[tuple]:
    return [tuple(row) for row in data.parts[part].table.rows]
