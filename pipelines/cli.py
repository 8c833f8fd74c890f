"""The command `zoo`: list, show, fit, evaluate, predict, export. Keras is imported only where it is needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pretrained Keras models: fine-tune them on your images, and export them with proof.",
    epilog="Start with: zoo fit mobilenet_v2 --images FOLDER --out runs/mine, where FOLDER has one sub-folder a class.",
)
out = Console(highlight=False)


@app.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="Names to show, with * for any letters: 'resnet*'.")] = "*",
    family: Annotated[str | None, typer.Option(help="Only this family, such as vit.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Only models up to this size, such as 30M.")] = None,
) -> None:
    """List the models, with their sizes and bundled weights."""
    import fnmatch

    from zoo.core import catalog

    limit = _count(max_params) if max_params else None
    table = Table("model", "family", "input", "parameters", "weights")
    found = [
        entry
        for entry in catalog.entries()
        if fnmatch.fnmatchcase(entry.name, pattern)
        and family in (None, entry.family)
        and (limit is None or entry.parameters <= limit)
    ]
    if not found:
        raise ValueError(f"No model matches {pattern!r}. All of them: zoo list.")
    for entry in found:
        height, width = entry.size
        tags = ", ".join(tag.name for tag in entry.tags)
        table.add_row(entry.name, entry.family, f"{height} x {width}", f"{entry.parameters:,}", tags)
    out.print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A model's name, as in zoo list.")]) -> None:
    """Show one model: parameters, input size, tasks, paper, weights and their licences."""
    import difflib

    from zoo.core import catalog

    known = {entry.name: entry for entry in catalog.entries()}
    if name not in known:
        near = " or ".join(map(repr, difflib.get_close_matches(name, known, n=3)))
        raise ValueError(f"No architecture named {name!r}.{f' Did you mean {near}?' if near else ''} See: zoo list.")
    entry = known[name]
    table = Table(show_header=False)
    table.add_row("model", entry.name)
    table.add_row("family", entry.family)
    table.add_row("input", f"{entry.size[0]} x {entry.size[1]} pixels, RGB 0..255")
    table.add_row("parameters", f"{entry.parameters:,}")
    table.add_row("tasks", ", ".join(entry.tasks))
    table.add_row("paper", entry.paper)
    for tag in entry.tags:
        table.add_row("weights", f"{tag.name.rpartition('.')[2]}: {tag.uri}, {tag.classes} classes, {tag.licence}")
    if not entry.tags:
        table.add_row("weights", "none bundled; any that fit load with hf://org/repo, a URL or a path")
    out.print(table)


@app.command()
def fit(
    model: Annotated[str | None, typer.Argument(help="A model's name, as in zoo list.")] = None,
    images: Annotated[
        str | None,
        typer.Option(help="A folder with one sub-folder a class, a CSV of path,label, an .npz, tfds:NAME, or digits."),
    ] = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="The folder for the result.")] = Path("runs/latest"),
    recipe: Annotated[
        str | None,
        typer.Option(
            help="feature_extraction, fine_tuning, progressive_unfreezing (usual with weights), "
            "or from_scratch (usual without)."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A tag (bundled), hf://org/repo, a URL or a path; none for random weights.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each phase; the recipe's own if not given.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate of the first phase.")] = None,
    batch: Annotated[int, typer.Option(help="Images a step, over all devices.")] = 32,
    size: Annotated[int | None, typer.Option(help="Image size in pixels; the model's own if not given.")] = None,
    crop: Annotated[
        float | None, typer.Option(help="Share that the centre crop keeps, 1 for all; the model's own if not given.")
    ] = None,
    augment: Annotated[str, typer.Option(help="none, light or standard.")] = "light",
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Mirror images while training.")] = None,
    validation: Annotated[str | None, typer.Option(help="A validation folder, CSV or tfds split of its own.")] = None,
    test: Annotated[str | None, typer.Option(help="A test folder, CSV or tfds split of its own.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where tfds data sets lie.")] = None,
    skip_corrupt: Annotated[bool, typer.Option("--skip-corrupt", help="Leave out files that cannot be read.")] = False,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    seed: Annotated[int, typer.Option(help="Decides the split, the order and the random weights.")] = 0,
    run_file: Annotated[
        Path | None, typer.Option("--run", help="Run again what a run.json says; only --out changes it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
) -> None:
    """Fine-tune a model on your images; evaluate it on a held-out part."""
    import dataclasses

    from pipelines.run import Hardware, Images, Run

    if run_file is not None:
        run = dataclasses.replace(Run.from_json(run_file.read_text(encoding="utf-8")), out=output)
    elif model is None or images is None:
        raise ValueError("zoo fit needs a model and --images: zoo fit mobilenet_v2 --images FOLDER.")
    else:
        weights = _usual_weights(model) if weights is None else (None if weights == "none" else weights)
        data = Images(
            images,
            validation=validation,
            test=test,
            size=size,
            crop=crop,
            augment=augment,  # type: ignore[arg-type]  # Images checks it
            flip=flip,
            skip_corrupt=skip_corrupt,
            data_dir=data_dir,
        )
        run = Run(
            model,
            data,
            _phases(recipe or ("progressive_unfreezing" if weights else "from_scratch"), epochs, learning_rate),
            output,
            weights=weights,
            hardware=Hardware(precision=precision),  # type: ignore[arg-type]  # Hardware checks it
            batch=batch,
            seed=seed,
        )
    _train(run, overwrite=overwrite)


@app.command()
def evaluate(bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit.")]) -> None:
    """Score a trained model on its held-out test images, again from its files."""
    _import_tensorflow()
    from pipelines import evaluate as scoring
    from pipelines import sources
    from pipelines.bundle import load

    loaded = load(bundle)
    data = sources.load(loaded.run.data, seed=loaded.run.seed)
    if not len(data.test):
        raise ValueError(f"'{bundle}' was trained without a test split, so there is nothing to score.")
    _print_scores(scoring.evaluate(loaded.load_model(), data.test, loaded.classes, batch=loaded.run.batch))


@app.command()
def predict(
    model: Annotated[
        Path, typer.Argument(help="A folder made by zoo fit, or one of its files (.tflite, saved_model).")
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(help="How many classes to show.")] = 3,
) -> None:
    """Name what is in images, with a bundle, a SavedModel or a .tflite file."""
    _import_tensorflow()
    from pipelines.predict import Predictor

    predictor = Predictor.open(model)
    table = Table("image", *(f"{place}." for place in range(1, min(top, len(predictor.classes)) + 1)))
    for path, best in zip(images, predictor.best(images, top=top), strict=True):
        table.add_row(str(path), *(f"{name} {probability:.1%}" for name, probability in best))
    out.print(table)


@app.command()
def export(
    bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit.")],
    tflite: Annotated[
        list[str] | None, typer.Option(help="float32, float16, dynamic or int8; give it several times for several.")
    ] = None,
    saved_model: Annotated[bool, typer.Option("--saved-model", help="A TensorFlow SavedModel.")] = False,
) -> None:
    """Write SavedModel and TFLite files, each compared with the Keras model; everything if no format is named."""
    _import_tensorflow()
    from pipelines.deliver import export_bundle
    from pipelines.export import FORMATS

    chosen = (*(["saved_model"] if saved_model else []), *(tflite or []))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        raise ValueError(f"No export format {unknown[0]!r}. Formats: --saved-model, --tflite {', '.join(FORMATS[1:])}.")
    out.print(export_bundle(bundle, chosen or FORMATS).table())


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error, not a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except (ValueError, ArithmeticError, OSError) as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        _fail(f"{error}", 1)


def _train(run, *, overwrite: bool) -> None:
    _import_tensorflow()
    from pipelines.train import train

    try:
        bundle = train(run, overwrite=overwrite)
    except KeyboardInterrupt:
        best = run.out / "best.weights.h5"
        kept = f" The best weights so far are in '{best}'." if best.is_file() else ""
        again = f" Run it again: zoo fit --run {run.out / 'run.json'} --out {run.out} --overwrite" if kept else ""
        _fail(f"Interrupted.{kept}{again}", 130)
    if bundle.scores:
        _print_scores(bundle.scores)
    out.print(f"The model is in [bold]{bundle.path}[/]. Next: zoo export {bundle.path}", soft_wrap=True)


def _phases(recipe: str, epochs: int | None, learning_rate: float | None):
    from pipelines.recipes import RECIPES

    if recipe not in RECIPES:
        raise ValueError(f"No recipe {recipe!r}. Recipes: {', '.join(RECIPES)}.")
    given = {"epochs": epochs, "learning_rate": learning_rate}
    return RECIPES[recipe](**{name: value for name, value in given.items() if value is not None})


def _usual_weights(model: str) -> str | None:
    """The weights that come with the package, if the model has any."""
    from zoo.core import catalog

    tags = {entry.name: [tag.name for tag in entry.tags] for entry in catalog.entries()}
    return "bundled" if "bundled" in tags.get(model, ()) else None


def _print_scores(scores) -> None:
    table = Table("class", "precision", "recall", "F1", "images")
    for c in scores.classes:
        table.add_row(c.name, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", str(c.images))
    out.print(table)
    top5 = f", top-5 {scores.top5:.2%}" if scores.top5 is not None else ""
    out.print(f"Accuracy [bold]{scores.accuracy:.2%}[/]{top5} on {scores.images:,} test images.")


def _count(text: str) -> int:
    """'30M' as 30,000,000."""
    scale = {"K": 10**3, "M": 10**6, "B": 10**9}.get(text[-1:].upper(), 1)
    try:
        return int(float(text[:-1] if scale > 1 else text) * scale)
    except ValueError:
        raise ValueError(f"--max-params {text!r} is no number such as 30M.") from None


def _import_tensorflow() -> None:
    """Import TensorFlow and let it look for its devices, without what its C++ says of them on standard error.

    No setting silences those lines. An import that fails still raises.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _fail(message: str, code: int) -> None:
    Console(stderr=True, highlight=False).print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
