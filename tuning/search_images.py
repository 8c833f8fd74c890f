"""Search for the best image classifier: how to fine-tune a pretrained model on your images.

    python -m tuning.search_images --images pets/ --budget 30m

Copy this file to search for something else: other models, another recipe, ranges of your own.
"""

from __future__ import annotations

from pipelines.commands.terminal import run
from pipelines.recipes import fine_tuning
from pipelines.run import Images, Run
from tuning import script, spaces
from tuning.plan import Plan


def main() -> None:
    """Make a plan of the options, and carry it out."""
    asked = script.options(
        __doc__, "images", "a folder with a sub-folder a class, a CSV, an .npz, tfds:NAME, or digits"
    )
    shared = Run(  # what the space does not name is the same in all trials
        "mobilenet_v2",
        Images(asked.images, size=asked.size),
        fine_tuning(),
        asked.out,
        weights="bundled",
        seed=asked.seed,
    )
    space = spaces.transfer_images(("mobilenet_v2",), epochs=asked.epochs)
    script.carry_out(Plan(shared, space, trials=asked.trials, seed=asked.seed), asked)


if __name__ == "__main__":
    run(main)
