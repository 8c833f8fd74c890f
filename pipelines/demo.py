"""The main job in one command: ImageNet MobileNetV2 to handwritten digits, evaluated and exported with proof."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console

from pipelines.commands.terminal import import_tensorflow
from pipelines.recipes import fine_tuning
from pipelines.run import Images, Run

RUN = Run(
    "mobilenet_v2",
    Images("digits", size=96),
    fine_tuning(epochs=8),
    Path("saved_models/digits"),
    weights="bundled",
)


def main() -> int:
    """Train, evaluate, export, and say what came out; 1 if the goals of the README were missed."""
    start, console = time.perf_counter(), Console(highlight=False)
    import_tensorflow()
    from pipelines.deliver import export_bundle
    from pipelines.train import train

    bundle = train(RUN, overwrite=True)
    report = export_bundle(bundle.path)
    console.print(report.table())
    accuracy = bundle.scores.accuracy
    console.print(
        f"Test accuracy [bold]{accuracy:.2%}[/] on {bundle.scores.images} images; everything lies in {bundle.path}; "
        f"{time.perf_counter() - start:.0f} s."
    )
    rows = {row.format: row for row in report.rows}
    return int(accuracy < 0.97 or rows["int8"].accuracy < rows["float32"].accuracy - 0.01)


if __name__ == "__main__":
    sys.exit(main())
