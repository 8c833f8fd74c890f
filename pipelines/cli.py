"""The command `zoo`: finds models, trains, tunes, evaluates and exports them, and keeps published weights at hand."""

from __future__ import annotations

import typer

from pipelines.commands import (
    attention,
    captioning,
    generating,
    models,
    predicting,
    runs,
    sampling,
    training,
    weights,
)
from pipelines.commands.terminal import run
from tuning import command

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pretrained Keras models: fine-tune them on your images, texts, tables or series, and export them with proof.",
    epilog="Start with: zoo fit mobilenet_v2 --images FOLDER --out runs/mine, where FOLDER has one sub-folder a class.",
)
app.command("list")(models.list_models)
for function in (
    models.show,
    training.fit,
    training.resume,
    runs.runs,
    training.evaluate,
    predicting.predict,
    predicting.search,
    training.export,
    command.tune,
    generating.generate,
    sampling.sample,
    sampling.reconstruct,
    captioning.caption,
    attention.attention,
    weights.fetch,
    weights.bundle,
    weights.verify,
):
    app.command()(function)


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
