"""`zoo tune`: a search over models, recipes and hyper-parameters, from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands import data_options as options
from pipelines.commands import training_options as training
from pipelines.commands.terminal import import_tensorflow, out
from tuning import terms
from tuning.plan import PORT

_SHARED, _MACHINES = "What all trials share", "Several machines"
_GRANTED = ("parallel", "budget", "memory", "trial_time", "chief", "listen", "lease")  # what can change as it goes on


def _option(help: str, *names: str, panel: str = "The search", metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)


def tune(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(help="A model's name, as in zoo list, or a checkpoint; the space may hold several instead."),
    ] = None,
    images: options.ImageSource = None,
    texts: options.TextSource = None,
    tables: options.TableSource = None,
    series: options.SeriesSource = None,
    pairs: options.PairSource = None,
    space: Annotated[
        str | None,
        _option(
            "transfer_images, _text, _pairs, from_scratch_images, _text, _pairs, tables, series, mobile, or a .json or "
            ".yaml file."
        ),
    ] = None,
    oracle: Annotated[
        str | None,
        _option("random, grid, bayesian (usual), hyperband, or pareto, which is usual for several objectives."),
    ] = None,
    trials: Annotated[int, _option("At most so many.")] = 12,
    objectives: Annotated[
        list[str] | None,
        _option(
            "What makes a trial better: val_accuracy, val_loss, latency, size, ...; mine:max where the name does not "
            "say it. Several times for several.",
            "--objective",
        ),
    ] = None,
    budget: Annotated[str | None, _option("Time for all trials: 30m, 2h. The running ones can go on later.")] = None,
    parallel: Annotated[int, _option("Trials at a time, each on a GPU of its own where there are several.")] = 1,
    memory: Annotated[str | None, _option("What a trial may take: 2G, 512M. One that takes more has failed.")] = None,
    trial_time: Annotated[
        str | None, _option("How long a trial may take: 10m. One that takes longer has failed.")
    ] = None,
    seed: Annotated[int, _option("Decides the trials, and, of each, the split, the order and random weights.")] = 0,
    output: Annotated[Path, _option("The folder for the search.", "--out", "-o")] = Path("runs/tune"),
    overwrite: Annotated[bool, _option("Replace an earlier search in --out.", "--overwrite")] = False,
    resume: Annotated[
        Path | None, _option("Go on with the search in a folder; nothing that ended runs again.", metavar="FOLDER")
    ] = None,
    show: Annotated[
        Path | None, _option("Print what is known of the search in a folder, finished or not.", metavar="FOLDER")
    ] = None,
    chief: Annotated[
        bool, _option("Have the trials carried out by workers on other machines.", "--chief", panel=_MACHINES)
    ] = False,
    listen: Annotated[
        str | None,
        _option(f"Where the chief waits for workers: HOST:PORT; 0.0.0.0:{PORT} if not given.", panel=_MACHINES),
    ] = None,
    lease: Annotated[
        str | None,
        _option("After how long without a word a worker has lost its trial; 60s if not given.", panel=_MACHINES),
    ] = None,
    worker: Annotated[
        str | None,
        _option(
            "Be a worker of the chief at HOST:PORT; with --out where this machine calls the search's folder otherwise.",
            panel=_MACHINES,
        ),
    ] = None,
    max_epochs: Annotated[int | None, _option("Of hyperband: those of its best trials; all if not given.")] = None,
    factor: Annotated[int | None, _option("Of hyperband: each time so many times more epochs; 3 if not given.")] = None,
    quantize: Annotated[
        str | None, _option("The TFLite file that latency and size are of: none (usual), float16, dynamic or int8.")
    ] = None,
    run_file: Annotated[Path | None, _option("What all trials share, from a run.json.", "--run", panel=_SHARED)] = None,
    task: Annotated[
        str | None, _option("classify, regress, tag, ...; what the data ask for else.", panel=_SHARED)
    ] = None,
    recipe: Annotated[str | None, _option("Of those of zoo fit, where the space has none.", panel=_SHARED)] = None,
    weights: Annotated[str | None, _option("A tag, a URI or a path; none for random weights.", panel=_SHARED)] = None,
    epochs: Annotated[int | None, _option("Epochs of each phase.", panel=_SHARED)] = None,
    batch: Annotated[str, _option("Examples a step, where the space has none.", panel=_SHARED)] = "32",
    precision: Annotated[str, _option("float32, bfloat16 or float16.", panel=_SHARED)] = "float32",
    patience: training.Patience = None,
    validation: options.Validation = None,
    test: options.Test = None,
    data_dir: options.DataDir = None,
    size: options.Size = None,
    crop: options.Crop = None,
    augment: options.Augment = None,
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
) -> None:
    """Search for the model and the recipe that fit your data best; each trial is a run, the best one a bundle."""
    given = training.given(context)
    if show is not None:
        _only(given, ("show",))
        from tuning import report

        return report.show(show)
    if worker is not None:
        _only(given, ("worker", "output"))
        return _work(worker, given.get("output"))
    granted = _granted(given)
    if resume is not None:
        _only(given, ("resume", *_GRANTED))
        return _gone_on(resume, granted)
    _begun(given, granted, output, overwrite=overwrite)


def _granted(given: Mapping[str, Any]) -> dict[str, Any]:
    """On which terms, as far as they are given.

    Raises:
        ValueError: one of them is no length of time, or no amount of memory.
    """
    found: dict[str, Any] = {"parallel": given["parallel"]} if "parallel" in given else {}
    for name, field in (("budget", "budget"), ("trial_time", "trial_seconds")):
        if name in given:
            found[field] = terms.seconds(given[name], option=f"--{name.replace('_', '-')}")
    if "memory" in given:
        found["memory"] = terms.size(given["memory"])
    return found | _machines(given)


def _machines(given: Mapping[str, Any]) -> dict[str, Any]:
    """Where the chief is, if there is one.

    Raises:
        ValueError: an option is of a chief, or of one machine.
    """
    if "chief" not in given:
        for name in ("listen", "lease"):
            if name in given:
                raise ValueError(f"--{name} is of --chief.")
        return {}
    if "parallel" in given:
        raise ValueError("--parallel is for one machine; a chief has as many trials at a time as it has workers.")
    found: dict[str, Any] = {"listen": given.get("listen", f"0.0.0.0:{PORT}")}
    if "lease" in given:
        found["lease"] = terms.seconds(given["lease"], option="--lease")
    return found


def _work(address: str, folder: Path | None) -> None:
    """Be a worker of a chief."""
    import_tensorflow()
    from tuning.worker import work

    ended = work(address, folder=folder, say=out.print)
    out.print(f"The search is over; {ended} of its trials were carried out here.")


def _only(given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Refuse options of a new search for one that there is.

    Raises:
        ValueError: one is given.
    """
    other = [name for name in given if name not in names]
    if other:
        beside = ", ".join(f"--{name.replace('_', '-')}" for name in names[1:])
        raise ValueError(
            f"{_named(other[0])} is of a new search; --{names[0]} takes one as it is"
            f"{f', and beside it {beside}' if beside else ''}."
        )


def _named(option: str) -> str:
    other = {"model": "MODEL", "output": "--out", "objectives": "--objective", "run_file": "--run"}
    return other.get(option, f"--{option.replace('_', '-')}")


def _begun(given: Mapping[str, Any], granted: Mapping[str, Any], folder: Path, *, overwrite: bool) -> None:
    """Carry out a new search, as the options say."""
    from tuning import begin, place

    place.check_room(folder, overwrite=overwrite)
    import_tensorflow()  # which spaces do too, with all that it says
    plan = begin.plan(given, out=folder)
    from tuning import told
    from tuning.search import search

    told.finish(lambda: search(plan, folder=folder, overwrite=overwrite, **granted), folder)


def _gone_on(folder: Path, granted: Mapping[str, Any]) -> None:
    """Go on with a search."""
    from tuning import plan

    plan.load(folder)
    from tuning import told
    from tuning.search import resume

    told.finish(lambda: resume(folder, **granted), folder)
