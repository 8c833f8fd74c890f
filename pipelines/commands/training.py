"""`zoo fit`, `evaluate`, `predict` and `export`: from images to a model, its scores and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.commands.terminal import fail, import_tensorflow, out


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


def evaluate(bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit.")]) -> None:
    """Score a trained model on its held-out test images, again from its files."""
    import_tensorflow()
    from pipelines import evaluate as scoring
    from pipelines import sources
    from pipelines.bundle import load

    loaded = load(bundle)
    data = sources.load(loaded.run.data, seed=loaded.run.seed)
    if not len(data.test):
        raise ValueError(f"'{bundle}' was trained without a test split, so there is nothing to score.")
    _print_scores(scoring.evaluate(loaded.load_model(), data.test, loaded.classes, batch=loaded.run.batch))


def predict(
    model: Annotated[
        Path, typer.Argument(help="A folder made by zoo fit, or one of its files (.tflite, saved_model).")
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(help="How many classes to show.")] = 3,
) -> None:
    """Name what is in images, with a bundle, a SavedModel or a .tflite file."""
    import_tensorflow()
    from pipelines.predict import Predictor

    predictor = Predictor.open(model)
    table = Table("image", *(f"{place}." for place in range(1, min(top, len(predictor.classes)) + 1)))
    for path, best in zip(images, predictor.best(images, top=top), strict=True):
        table.add_row(str(path), *(f"{name} {probability:.1%}" for name, probability in best))
    out.print(table)


def export(
    bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit.")],
    tflite: Annotated[
        list[str] | None, typer.Option(help="float32, float16, dynamic or int8; give it several times for several.")
    ] = None,
    saved_model: Annotated[bool, typer.Option("--saved-model", help="A TensorFlow SavedModel.")] = False,
) -> None:
    """Write SavedModel and TFLite files, each compared with the Keras model; everything if no format is named."""
    import_tensorflow()
    from pipelines.deliver import export_bundle
    from pipelines.export import FORMATS

    chosen = (*(["saved_model"] if saved_model else []), *(tflite or []))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        raise ValueError(f"No export format {unknown[0]!r}. Formats: --saved-model, --tflite {', '.join(FORMATS[1:])}.")
    out.print(export_bundle(bundle, chosen or FORMATS).table())


def _train(run, *, overwrite: bool) -> None:
    import_tensorflow()
    from pipelines.train import train

    try:
        bundle = train(run, overwrite=overwrite)
    except KeyboardInterrupt:
        best = run.out / "best.weights.h5"
        kept = f" The best weights so far are in '{best}'." if best.is_file() else ""
        again = f" Run it again: zoo fit --run {run.out / 'run.json'} --out {run.out} --overwrite" if kept else ""
        fail(f"Interrupted.{kept}{again}", 130)
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
    from zoo.weights.curated import published

    return next((line.tag for line in published() if line.variant == model and line.tag == "bundled"), None)


def _print_scores(scores) -> None:
    table = Table("class", "precision", "recall", "F1", "images")
    for c in scores.classes:
        table.add_row(c.name, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", str(c.images))
    out.print(table)
    top5 = f", top-5 {scores.top5:.2%}" if scores.top5 is not None else ""
    out.print(f"Accuracy [bold]{scores.accuracy:.2%}[/]{top5} on {scores.images:,} test images.")
