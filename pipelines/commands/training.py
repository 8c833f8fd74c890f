"""`zoo fit`, `evaluate` and `export`: from data to a model, its scores and its files."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines import cluster
from pipelines.commands import adversary_options as gan
from pipelines.commands import autoencoding_options as autoencoder
from pipelines.commands import data_options as options
from pipelines.commands import drawing_options as drawing
from pipelines.commands import training_options as training
from pipelines.commands.terminal import fail, import_tensorflow, out
from pipelines.commands.usual import phases_of, usual_recipe, usual_weights
from pipelines.recipes import RECIPES
from pipelines.run import Phase, Run

if TYPE_CHECKING:
    from pipelines.bundle import Bundle


def fit(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(help="A model's name, as in zoo list, or a checkpoint: hf://org/repo or ./directory."),
    ] = None,
    images: options.ImageSource = None,
    texts: options.TextSource = None,
    tables: options.TableSource = None,
    series: options.SeriesSource = None,
    pairs: options.PairSource = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="The folder for the result.")] = Path("runs/latest"),
    task: Annotated[
        str | None, typer.Option(help="classify, multi_label, regress, tag, answer, ...; what the data ask for else.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(RECIPES)}; progressive_unfreezing if not given, or, without weights, from_scratch; "
            "with a teacher, distill; of a GAN, adversarial."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="A tag (bundled), hf://org/repo, a URL or a path; none for random weights.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each phase; the recipe's own if not given.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate of the first phase.")] = None,
    loss: training.Loss = None,
    find_rate: Annotated[
        bool,
        typer.Option("--find-learning-rate", help="Take the peak rate from a short sweep on a copy of the model."),
    ] = False,
    batch: training.Batch = "32",
    accumulate: Annotated[
        int, typer.Option(help="Micro-batches of a device's part of a batch, one after the other.")
    ] = 1,
    save_steps: Annotated[
        int | None, typer.Option(help="Steps between two checkpoints within an epoch; about a minute if not given.")
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    seed: Annotated[int, typer.Option(help="Decides the split, the order and the random weights.")] = 0,
    validation: options.Validation = None,
    test: options.Test = None,
    data_dir: options.DataDir = None,
    run_file: Annotated[
        Path | None, typer.Option("--run", help="Run again what a run.json says; only --out changes it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
    size: options.Size = None,
    crop: options.Crop = None,
    augment: options.Augment = None,
    views: options.Views = None,
    flip: options.Flip = None,
    balance: options.Balance = False,
    mixup: options.Mixup = None,
    cutmix: options.Cutmix = None,
    skip_corrupt: options.SkipCorrupt = False,
    label_delim: options.LabelDelim = None,
    class_columns: options.ClassColumn = None,
    image_column: options.ImageColumn = None,
    prompt: options.Prompt = None,
    text_column: options.TextColumn = None,
    second_column: options.SecondColumn = None,
    label_column: options.LabelColumn = None,
    length: options.Length = None,
    tokenizer: options.Tokenizer = None,
    vocabulary: options.Vocabulary = None,
    target: options.Target = None,
    categorical: options.Categorical = None,
    ignore: options.Ignore = None,
    columns: options.Column = None,
    window: options.Window = None,
    horizon: options.Horizon = None,
    stride: options.Stride = None,
    optimizer: training.Optimizer = None,
    schedule: training.Schedule = None,
    warmup: training.Warmup = None,
    weight_decay: training.WeightDecay = None,
    momentum: training.Momentum = None,
    nesterov: training.Nesterov = None,
    clip: training.Clip = None,
    clip_by: training.ClipBy = None,
    ema: training.Ema = None,
    beta_1: training.Beta1 = None,
    beta_2: training.Beta2 = None,
    l1: training.L1 = None,
    l2: training.L2 = None,
    patience: training.Patience = None,
    rollbacks: training.Rollbacks = None,
    label_smoothing: training.LabelSmoothing = None,
    class_weights: training.ClassWeight = None,
    focus: training.Focus = None,
    positive_weights: training.PositiveWeight = None,
    teacher: training.Teacher = None,
    teacher_weights: training.TeacherWeights = None,
    temperature: training.Temperature = None,
    label_share: training.LabelShare = None,
    features: training.Features = None,
    feature_pairs: training.FeaturePair = None,
    feature_weight: training.FeatureWeight = None,
    game: gan.Game = None,
    gradient_penalty: gan.GradientPenalty = None,
    critic_steps: gan.CriticSteps = None,
    discriminator_rate: gan.DiscriminatorRate = None,
    likelihood: autoencoder.Likelihood = None,
    beta: autoencoder.Beta = None,
    beta_warmup: autoencoder.BetaWarmup = None,
    deviation: autoencoder.Deviation = None,
    commitment: autoencoder.Commitment = None,
    code_temperature: autoencoder.CodeTemperature = None,
    code_balance: autoencoder.CodeBalance = None,
    bound_samples: autoencoder.BoundSamples = None,
    config: training.Config = None,
    codes_from: drawing.CodesFrom = None,
    image_weight: drawing.ImageWeight = None,
    caption_dropout: drawing.CaptionDropout = None,
    dropout: training.Dropout = None,
    stochastic_depth: training.StochasticDepth = None,
    workers: training.Workers = None,
    index: training.Index = None,
    deterministic: training.Deterministic = True,
    cache: training.Cache = None,
) -> None:
    """Fine-tune a model on your images, texts, tables, series or captions; evaluate it on a held-out part."""
    training.join(workers, index)
    if run_file is not None:
        return _train(_again(run_file, output), overwrite=overwrite)
    given = training.given(context)
    data = options.data(given)
    if model is None:
        raise ValueError(f"zoo fit needs a model before its data: zoo fit MODEL --{type(data).__name__.lower()} ...")
    weights = usual_weights(model) if weights is None else (None if weights == "none" else weights)
    recipe = recipe or usual_recipe(model, task)
    recipe = training.recipe(recipe, pretrained=bool(weights or "/" in model), taught=teacher is not None)
    phases = phases_of(recipe, epochs, learning_rate, warmup)
    made = {**training.run_options(given, model), "drawing": drawing.drawing(given)}
    run = Run(model, data, phases, output, weights=weights, **made)
    if not find_rate:
        return _train(run, overwrite=overwrite)
    if learning_rate is not None:
        raise ValueError("--find-learning-rate and --learning-rate both say the peak rate. Give one of them.")
    return _train_at_found_rate(run, lambda rate: phases_of(recipe, epochs, rate, warmup), overwrite=overwrite)


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit.")],
    judge: Annotated[
        Path | None, typer.Option(help="Of a GAN: a classifier that zoo fit made, by whose features images count.")
    ] = None,
) -> None:
    """Score a trained model on the held-out test part of its data, again from its files."""
    import_tensorflow()
    from pipelines.bundle import load
    from pipelines.evaluate import evaluate_bundle

    loaded = load(bundle)
    if judge is not None:
        from pipelines.judging import judged

        return _print_scores(judged(loaded, judge), loaded.run.data.unit)
    _print_scores(evaluate_bundle(loaded), loaded.run.data.unit)


def export(
    bundle: Annotated[Path, typer.Argument(help="A folder made by zoo fit.")],
    tflite: Annotated[
        list[str] | None, typer.Option(help="float32, float16, dynamic or int8; give it several times for several.")
    ] = None,
    saved_model: Annotated[bool, typer.Option("--saved-model", help="A TensorFlow SavedModel.")] = False,
    length: Annotated[
        int | None, typer.Option(help="Tokens of the texts that a .tflite file takes; those of the run if not given.")
    ] = None,
) -> None:
    """Write SavedModel and TFLite files, each compared with the Keras model; the usual ones if no format is named."""
    import_tensorflow()
    from pipelines.deliver import export_bundle
    from pipelines.export import FORMATS

    chosen = (*(["saved_model"] if saved_model else []), *(tflite or []))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        raise ValueError(f"No export format {unknown[0]!r}. Formats: --saved-model, --tflite {', '.join(FORMATS[1:])}.")
    out.print(export_bundle(bundle, chosen or None, length=length).table())


def resume(
    run: Annotated[Path, typer.Argument(help="The folder of a run that was interrupted or killed.", metavar="RUN")],
    workers: training.Workers = None,
    index: training.Index = None,
) -> None:
    """Go on with a run where it stopped; it ends with the weights that it would have ended with."""
    training.join(workers, index)
    import_tensorflow()
    from pipelines.train import resume

    _finish(lambda: resume(run), run)


def _train(run, *, overwrite: bool) -> None:
    import_tensorflow()
    from pipelines.train import train

    _finish(lambda: train(run, overwrite=overwrite), run.out)


def _train_at_found_rate(run: Run, phases: Callable[[float], tuple[Phase, ...]], *, overwrite: bool) -> None:
    import_tensorflow()
    from pipelines import batch_size, bundle, outcome, workers
    from pipelines.train import find_rate

    bundle.check_room(run.out, overwrite=overwrite)
    outcome.check_machines(run)
    run = batch_size.settled(run)
    found = find_rate(run)
    shown = workers.is_chief()
    if shown:
        out.print(f"Learning rate: {found.steepest:.1e}, where the loss falls fastest (cautious: {found.valley:.1e}).")
    try:
        _train(dataclasses.replace(run, phases=phases(found.steepest)), overwrite=overwrite)
    finally:
        if run.out.is_dir() and shown:
            found.draw(run.out / "learning_rate.png")


def _finish(carry_out: Callable[[], Bundle], folder: Path) -> None:
    """Carry out a run, and print what has come of it."""
    from pipelines import workers
    from pipelines.interruption import Interrupted

    try:
        bundle = carry_out()
    except KeyboardInterrupt as error:
        began = (folder / "run.json").is_file()
        code = 128 + (error.signal if isinstance(error, Interrupted) else signal.SIGINT)
        again = f" What is done is saved. Go on with: zoo resume {folder}{cluster.given()}" if began else ""
        fail(f"Interrupted.{again}", code)
    if not workers.is_chief():
        return
    if bundle.scores:
        _print_scores(bundle.scores, bundle.run.data.unit)
    out.print(f"The model is in [bold]{bundle.path}[/]. Next: zoo export {bundle.path}", soft_wrap=True)


def _again(run_file: Path, output: Path) -> Run:
    """The run that a run.json says, into another folder."""
    return dataclasses.replace(Run.from_json(run_file.read_text(encoding="utf-8")), out=output)


def _print_scores(scores, unit: str) -> None:
    header, *lines = scores.rows(unit) or [()]
    if header:
        table = Table(*header)
        for line in lines:
            table.add_row(*map(escape, line))
        out.print(table)
    out.print(re.sub(r"\*\*(.+?)\*\*", r"[bold]\1[/]", escape(scores.summary(unit))), soft_wrap=True)
