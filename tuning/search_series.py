"""Search for the best forecast of a time series: kinds and sizes of networks, and how far back they look.

python -m tuning.search_series --series weather.csv --target temperature --budget 10m
"""

from __future__ import annotations

from pipelines.commands.terminal import run
from pipelines.recipes import from_scratch
from pipelines.run import Run, Series
from tuning import script, spaces
from tuning.plan import Plan
from tuning.space import Space

WINDOWS = Space({"data.window": [24, 12, 48]})  # time steps seen


def main() -> None:
    """Make a plan of the options, and carry it out."""
    asked = script.options(__doc__, "series", "a CSV file with a header and a row a time step", needs_target=True)
    data = Series(asked.series, target=(asked.target,), window=24)
    shared = Run("rnn_lstm", data, from_scratch(), asked.out, seed=asked.seed)
    space = spaces.series(epochs=asked.epochs) | WINDOWS
    script.carry_out(Plan(shared, space, trials=asked.trials, seed=asked.seed), asked)


if __name__ == "__main__":
    run(main)
