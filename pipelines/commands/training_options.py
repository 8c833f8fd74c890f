"""Options of `zoo fit` that say how weights are moved and what counts in the loss, as pipelines.run holds it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from pipelines import cluster, optimization
from pipelines.run import ClassWeights


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
Clip = Annotated[float | None, _option("A limit for the gradient's norm, such as 1.")]
ClipBy = Annotated[str | None, _option(f"What --clip limits: {_names(optimization.ClipBy)}; the first if not given.")]
Ema = Annotated[float | None, _option("Evaluate and keep a moving average of the weights, with a decay such as 0.999.")]
L1 = Annotated[float | None, _option("Times the sum of absolute weights, added to the loss.")]
L2 = Annotated[float | None, _option("Times the sum of squared weights, added to the loss.")]
Warmup = Annotated[float | None, _option("Share of each phase's steps in which the rate rises; 0.1 if not given.")]
Patience = Annotated[int | None, _option("Epochs without improvement after which a phase ends; 5 if not given.")]

Workers = Annotated[
    str | None,
    _option("Addresses of all machines that train together: host1:port,host2:port. With --index.", panel="Machines"),
]
Index = Annotated[
    int | None, _option("Which of --workers this machine is, from 0 on. Machine 0 writes the result.", panel="Machines")
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
Focus = Annotated[float | None, _option("Of the focal loss; 2 if not given.", panel="Loss")]
Dropout = Annotated[float | None, _option("Of models that have it: the share that is dropped.", panel="Loss")]
StochasticDepth = Annotated[
    float | None, _option("Of models that have it: the share of images that skip the last block.", panel="Loss")
]


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


def run_options(
    given: Mapping[str, Any], *, class_weight: Sequence[str] | None, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of Run from the options that are given (not None): its own, those of its Optimization, and the model's.

    Raises:
        ValueError: an optimization that makes no sense, or a class weight that is none.
    """
    known = {name: value for name, value in given.items() if value is not None}
    own = {field.name for field in dataclasses.fields(optimization.Optimization)}
    chosen = optimization.Optimization(**{name: value for name, value in known.items() if name in own})
    return {
        **{name: value for name, value in known.items() if name not in own},
        "optimization": chosen,
        "class_weights": _class_weights(class_weight or ()),
        "overrides": {name: value for name, value in overrides.items() if value is not None},
    }


def _class_weights(given: Sequence[str]) -> ClassWeights | None:
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
            raise ValueError(f"--class-weights {text} is neither 'balanced' nor NAME=WEIGHT, such as rare=5.")
    return weights
