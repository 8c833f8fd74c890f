"""Search for image classifiers that are small and fast on a phone: the front of accuracy, latency and size.

    python -m tuning.search_mobile --images pets/ --budget 1h

Latency and size are those of the int8 TFLite file, measured on this machine: let nothing else run on it.
"""

from __future__ import annotations

from pipelines.commands.terminal import run
from pipelines.recipes import fine_tuning
from pipelines.run import Images, Run
from tuning import script, spaces
from tuning.plan import Objective, Plan

OBJECTIVES = (Objective("val_accuracy", "max"), Objective("latency", "min"), Objective("size", "min"))


def main() -> None:
    """Make a plan of the options, and carry it out."""
    asked = script.options(
        __doc__, "images", "a folder with a sub-folder a class, a CSV, an .npz, tfds:NAME, or digits"
    )
    shared = Run("mobilenet_v2", Images(asked.images), fine_tuning(), asked.out, weights="bundled", seed=asked.seed)
    sizes = {} if asked.size is None else {"sizes": (asked.size,)}
    space = spaces.mobile(("mobilenet_v2", "mobilenet_v2_050", "mobilenet_v2_035"), epochs=asked.epochs, **sizes)
    plan = Plan(shared, space, OBJECTIVES, "pareto", asked.trials, asked.seed, quantize="int8")
    script.carry_out(plan, asked)


if __name__ == "__main__":
    run(main)
