"""Options of `zoo fit` that say how weights are moved and what counts in the loss, as pipelines.run holds it."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipelines import cluster, distillation, optimization
from pipelines.commands import adversary_options, autoencoding_options
from pipelines.run import ClassWeights, Hardware
from pipelines.settling import usual_optimization

_AS_GIVEN = ("task", "loss", "seed", "save_steps", "patience", "rollbacks", "label_smoothing", "focus")
_OF_TEACHER = (
    "teacher", "teacher_weights", "temperature", "label_share", "features", "feature_pairs", "feature_weight",
)  # fmt: skip
_OF_MODEL = ("dropout", "stochastic_depth")


def _option(help: str, *names: str, panel: str = "Optimization") -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel)


def _names(literal: Any) -> str:
    return ", ".join(typing.get_args(literal))


Optimizer = Annotated[str | None, _option(f"{_names(optimization.Optimizer)}; adam if not given.")]
Schedule = Annotated[str | None, _option(f"Of the rate: {_names(optimization.Schedule)}; cosine if not given.")]
Momentum = Annotated[float | None, _option("Of sgd 0.9, rmsprop 0, muon 0.95, if not given.")]
Nesterov = Annotated[bool | None, _option("Look ahead along the momentum of sgd.", "--nesterov")]
WeightDecay = Annotated[
    float | None, _option("Of kernels and embeddings; of adamw, lamb, lion and muon 0.01, else 0, if not given.")
]
Beta1 = Annotated[float | None, _option("Of adam and its kin: the part of the mean gradient that is kept.", "--beta-1")]
Beta2 = Annotated[float | None, _option("The same of its square.", "--beta-2")]
Clip = Annotated[float | None, _option("A limit for the gradient's norm, such as 1.")]
ClipBy = Annotated[str | None, _option(f"What --clip limits: {_names(optimization.ClipBy)}; the first if not given.")]
Ema = Annotated[float | None, _option("Evaluate and keep a moving average of the weights, with a decay such as 0.999.")]
L1 = Annotated[float | None, _option("Times the sum of absolute weights, added to the loss.")]
L2 = Annotated[float | None, _option("Times the sum of squared weights, added to the loss.")]
Warmup = Annotated[float | None, _option("Share of each phase's steps in which the rate rises; 0.1 if not given.")]
Batch = Annotated[str, typer.Option(help="Examples a step, over all devices; auto: the most that fit into memory.")]
Rollbacks = Annotated[
    int | None, _option("How often a loss that is no number leads back to where the epoch began, at half the rate.")
]
Patience = Annotated[int | None, _option("Epochs without improvement after which a phase ends; 5 if not given.")]

Workers = Annotated[
    str | None,
    _option("Addresses of all machines that train together: host1:port,host2:port. With --index.", panel="Machines"),
]
Index = Annotated[
    int | None, _option("Which of --workers this machine is, from 0 on. Machine 0 writes the result.", panel="Machines")
]
Deterministic = Annotated[
    bool,
    _option(
        "The same run gives the same weights again; without, GPUs are faster.", "--deterministic/--no-deterministic",
        panel="Machines",
    ),
]  # fmt: skip
Cache = Annotated[
    bool | None,
    _option(
        "Have frozen layers see each example once, and keep what they answer; where it pays if not given.",
        "--cache/--no-cache",
        panel="Machines",
    ),
]

Loss = Annotated[
    str | None,
    _option(
        "Of numbers mse (usual), mae or huber; of classes cross_entropy, binary_cross_entropy or focal.", panel="Loss"
    ),
]
LabelSmoothing = Annotated[
    float | None, _option("Share of a label that all classes get in equal parts, such as 0.1.", panel="Loss")
]
ClassWeight = Annotated[
    list[str] | None,
    _option("balanced, or NAME=WEIGHT, one option each; other classes count 1.", "--class-weights", panel="Loss"),
]
PositiveWeight = Annotated[
    list[str] | None,
    _option(
        "Of several labels: how much it counts to have one; as --class-weights.", "--positive-weights", panel="Loss"
    ),
]
Focus = Annotated[float | None, _option("Of the focal loss; 2 if not given.", panel="Loss")]
Config = Annotated[
    list[str] | None,
    _option("A size of the model, NAME=NUMBER, one option each: width=32, channels=1.", "--config", panel="Model"),
]
Dropout = Annotated[float | None, _option("Of models that have it: the share that is dropped.", panel="Loss")]
StochasticDepth = Annotated[
    float | None, _option("Of models that have it: the share of images that skip the last block.", panel="Loss")
]

_TEACHING = "Teacher"
Teacher = Annotated[
    str | None,
    _option("A finished run to learn from, or a checkpoint or a model's name with the same head.", panel=_TEACHING),
]
TeacherWeights = Annotated[
    str | None, _option("Of a teacher that is a model's name: a tag, a URI or a path.", panel=_TEACHING)
]
Temperature = Annotated[
    float | None, _option(f"That softens both answers; {distillation.TEMPERATURE:g} if not given.", panel=_TEACHING)
]
LabelShare = Annotated[
    float | None,
    _option(f"Of the labels in the loss; {distillation.LABEL_SHARE:g} if not given.", panel=_TEACHING),
]
Features = Annotated[
    bool | None, _option("Learn the teacher's features too, at like depths.", "--features", panel=_TEACHING)
]
FeaturePair = Annotated[
    list[str] | None,
    _option("Which features: GROUP=GROUP, the student's first, one option each.", "--feature-pair", panel=_TEACHING),
]
FeatureWeight = Annotated[float | None, _option("Of their distance in the loss; 1 if not given.", panel=_TEACHING)]


def join(workers: str | None, index: int | None) -> None:
    """Be one of several workers from here on, if the options say so.

    Raises:
        ValueError: they are no addresses and one of their numbers, or TF_CONFIG says something else.
    """
    if workers is None and index is None:
        return
    if workers is None or index is None:
        missing = "--workers" if workers is None else "--index"
        raise ValueError(
            f"{missing} is missing: --workers host1:port,host2:port names all machines, the same on each of them, and "
            "--index 0, 1, ... which of them this one is."
        )
    cluster.configure([address.strip() for address in workers.split(",")], index)


def batch_size(text: str) -> int | Literal["auto"]:
    """What --batch says.

    Raises:
        ValueError: it is neither a number nor auto.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise ValueError(f"--batch {text} is neither a number of examples, such as 32, nor auto.")
    return int(text)


def recipe(asked: str | None, *, pretrained: bool, taught: bool) -> str:
    """The recipe that is asked for, or the usual one.

    Raises:
        ValueError: it is that of a teacher, and there is none.
    """
    if asked == "distill" and not taught:
        raise ValueError("--recipe distill needs a teacher: --teacher FOLDER, a finished run on the same classes.")
    return asked or ("distill" if taught else "progressive_unfreezing" if pretrained else "from_scratch")


def given(context: typer.Context) -> dict[str, Any]:
    """The options that the user has given, by name: not those that have their default."""
    paths = {each.name for each in context.command.params if each.type.name == "path"}  # as texts until a call
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {
        name: Path(context.params[name]) if name in paths else context.params[name]
        for name, source in sources.items()
        if source and source.name == "COMMANDLINE"
    }


def run_options(given: Mapping[str, Any], model: str = "") -> dict[str, Any]:
    """Fields of Run from the options that are given: its own, those of its parts, and the model's.

    What is not given is what is usual for the model.

    Raises:
        ValueError: an optimization, a distillation or hardware that makes no sense, a class weight that is none.
    """
    own = {name: given[name] for name in _AS_GIVEN if name in given}
    if "batch" in given:
        own["batch"] = batch_size(given["batch"])
    return {
        **own,
        "hardware": Hardware(**_of(Hardware, given)),
        "optimization": dataclasses.replace(usual_optimization(model), **_of(optimization.Optimization, given)),
        "class_weights": _class_weights("--class-weights", given.get("class_weights", ())),
        "positive_weights": _class_weights("--positive-weights", given.get("positive_weights", ())),
        "distillation": _distillation({name: given[name] for name in _OF_TEACHER if name in given}),
        "overrides": {name: given[name] for name in _OF_MODEL if name in given} | _config(given.get("config", ())),
        "autoencoding": autoencoding_options.chosen(given),
        "adversary": adversary_options.chosen(model, given, given.get("task")),
    }


def _of(part: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are fields of a part of Run."""
    return {field.name: given[field.name] for field in dataclasses.fields(part) if field.name in given}


def _distillation(given: Mapping[str, Any]) -> distillation.Distillation | None:
    if not given:
        return None
    if "teacher" not in given:
        name = next(iter(given)).replace("_", "-").replace("pairs", "pair")
        raise ValueError(f"--{name} says how a teacher teaches; name one: --teacher FOLDER, a finished run.")
    values = {name.removeprefix("teacher_"): value for name, value in given.items()}
    pairs = values.pop("feature_pairs", ())
    wrong = [text for text in pairs if text.count("=") != 1]
    if wrong:
        raise ValueError(f"--feature-pair {wrong[0]} is not GROUP=GROUP, the student's first: stage2=stage3.")
    if pairs:
        values["features"] = tuple(tuple(text.split("=")) for text in pairs)
    return distillation.Distillation(**values)


def _config(given: Sequence[str]) -> dict[str, Any]:
    """Fields of the model's Config from NAME=VALUE."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            found[name.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            found[name.replace("-", "_")] = value
        if not (name and equals and value):
            raise ValueError(f"--config {text} is not NAME=VALUE, such as width=32.")
    return found


def _class_weights(option: str, given: Sequence[str]) -> ClassWeights | None:
    if not given:
        return None
    if list(given) == ["balanced"]:
        return "balanced"
    weights = {}
    for text in given:
        name, _, weight = text.rpartition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"{option} {text} is neither 'balanced' nor NAME=WEIGHT, such as rare=5.")
    return weights
