"""Search for the best model of a table: sizes, rates and regularization of a network on its columns.

python -m tuning.search_tables --tables homes.csv --target price --budget 10m
"""

from __future__ import annotations

from pipelines.commands.terminal import run
from pipelines.recipes import from_scratch
from pipelines.run import Run, Tables
from tuning import script, spaces
from tuning.plan import Plan


def main() -> None:
    """Make a plan of the options, and carry it out."""
    asked = script.options(__doc__, "tables", "a CSV file with a header, or iris, wine, breast_cancer, diabetes")
    data = Tables(asked.tables, target=asked.target or "target")
    shared = Run("mlp", data, from_scratch(), asked.out, seed=asked.seed)
    space = spaces.tables(("mlp",), epochs=asked.epochs)
    script.carry_out(Plan(shared, space, trials=asked.trials, seed=asked.seed), asked)


if __name__ == "__main__":
    run(main)
