"""What the config.json of a transformers text model says in common: its kind, its task, its classes, its activation.

Whatever changes the numbers of the same weights is read or, where it is not built here, refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, Literal, TypeVar

from zoo.core.family import CLASSED, Task
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, whole

Shapes = Mapping[str, tuple[int, ...]]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]
T = TypeVar("T")

HUB_ACTIVATIONS: dict[str, Activation] = {  # by the names of a transformers config.json
    **{name: name for name in ("gelu", "quick_gelu", "relu", "silu")},
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), "gelu_tanh"),
    "swish": "silu",
}

_TASKS: Mapping[str, Task] = {  # by how the name of a transformers class ends
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "tag",
    "ForQuestionAnswering": "answer",
    "ForMaskedLM": "masked_lm",
    "ForPreTraining": "masked_lm",
    "LMHeadModel": "causal_lm",
    "ForCausalLM": "causal_lm",
    "ForConditionalGeneration": "seq2seq",
    "Model": "features",
}


def is_of(config: Mapping[str, Any], *model_types: str, classes: str | tuple[str, ...]) -> bool:
    """Whether config.json describes one of these model types.

    The oldest files have no `model_type`: they tell it by the name of their class, which begins with `classes`.
    """
    if config.get("model_type") is not None:
        return config["model_type"] in model_types
    names = config.get("architectures")
    return isinstance(names, list) and str(next(iter(names), "")).startswith(classes)


def published_task(
    config: Mapping[str, Any], tasks: Sequence[Task], *, head: int | None = None
) -> tuple[Task, int | None]:
    """The task that a checkpoint was saved for, by `architectures` of its config.json, and its number of classes.

    The features where config.json does not say, or names a head that is none of `tasks`, the family's. `head` is how
    many classes the classifier's tensor has, if there is one.

    Raises:
        CheckpointError: `architectures` is no list of names, or the classifier has another number of classes.
    """
    names = config.get("architectures") or ["Model"]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise CheckpointError(f"config.json: architectures={short(names)} must be a list of names.")
    task: Task = next((task for ending, task in _TASKS.items() if names[0].endswith(ending)), "features")
    if task not in tasks:
        return "features", None
    if task not in CLASSED:
        return task, None
    classes = _classes(config)
    if head is not None:
        agree("number of labels", classes, head)
    return task, classes


def _classes(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    if isinstance(labels, Mapping):
        return len(labels)
    return whole(config, "num_labels", 1, 1_000_000, default=2)


def published_activation(config: Mapping[str, Any], key: str) -> Activation:
    """The activation of a config.json by transformers' name for it.

    Raises:
        CheckpointError: it is unknown here.
    """
    name = config.get(key, "gelu")
    if not isinstance(name, str) or name not in HUB_ACTIVATIONS:
        raise CheckpointError(f"config.json: {key}={short(name)} is unknown here. Known: {', '.join(HUB_ACTIVATIONS)}.")
    return HUB_ACTIVATIONS[name]


def only(config: Mapping[str, Any], **built: Any) -> None:
    """Refuse a config.json with another value than the one that is built here; a key that is absent or null has it.

    Raises:
        CheckpointError: a value is another; the same tensors would compute something else with it.
    """
    for key, value in built.items():
        found = config.get(key)
        if found is not None and found != value:
            raise CheckpointError(f"config.json: {key}={short(found)} is not built here; only {value!r} is.")


def flag(config: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """A yes or no of a config.json.

    Raises:
        CheckpointError: it is neither.
    """
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {key}={short(value)} must be true or false.")
    return value


def sides(shapes: Shapes, tensor: str) -> tuple[int | None, int | None]:
    """The first two sides of a tensor, whatever modules it is inside of; None for those that it does not have."""
    found = (shape for name, shape in shapes.items() if f".{name}".endswith(f".{tensor}"))
    first, second, *_ = (*next(found, ()), None, None)
    return first, second


def has_bias(shapes: Shapes, module: str) -> bool:
    """Whether a layer has a bias in a checkpoint; also if it is not in there at all."""
    return f"{module}.weight" not in shapes or f"{module}.bias" in shapes


def named_variant(config: T, variants: Mapping[str, T], fields: Sequence[str], *, default: str) -> str:
    """The variant whose `fields` are those of a config; `default` if it is of no known size."""
    equal = (
        name
        for name, variant in variants.items()
        if all(getattr(variant, field) == getattr(config, field) for field in fields)
    )
    return next(equal, default)
