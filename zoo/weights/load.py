"""The `weights=` argument: a tag, a URI, a path or a live model -> a model with those weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.core.family import CLASSED, Family, HubMatch, Task
from zoo.core.registry import build, configure, families, load_family, regresses_by_logits, regression
from zoo.core.skeleton import materialize, skeleton
from zoo.weights import hub
from zoo.weights.adapt import adapters
from zoo.weights.dialect import Dialect
from zoo.weights.errors import CheckpointError, WeightsMismatch
from zoo.weights.live import conventions, from_keras
from zoo.weights.locate import locate, offline
from zoo.weights.read import Tensors, open_tensors
from zoo.weights.translate import LOGITS, Plan, make_plan, values, variables

if TYPE_CHECKING:
    import keras

    from zoo.weights.layouts import Shape

logger = logging.getLogger("zoo")
_MOST_CLASSES = 1_000_000
_HEAD = r"(?:.*\.)?head_.*"  # paths of all layers that serve one task


@dataclass(frozen=True)
class Checkpoint:
    """Tensors, and what is known about them besides their values."""

    title: str
    tensors: Tensors
    config: Mapping[str, Any] | None = None  # config.json
    dialect: str | None = None  # None: the one that fits
    overrides: Mapping[str, Any] = field(default_factory=dict)  # Config fields that come with it

    def match(self, family: Family) -> HubMatch | None:
        """What config.json describes, if that is of this family."""
        if self.config is None or family.from_hub is None:
            return None
        return family.from_hub(self.config, self.tensors.shapes)


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    name: str
    config: Any  # of the variant; the checkpoint's conventions and the overrides come on top
    task: Task | None
    classes: int | None
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Attempt:
    """One dialect tried on a checkpoint: the model, still without values, and what stands against it."""

    dialect: str
    model: keras.Model
    published: int | None  # classes of the checkpoint
    classes: int | None  # classes of the model
    plan: Plan


def create_pretrained(
    family: Family,
    name: str,
    weights: str | Path | keras.Model,
    *,
    task: Task | None,
    classes: int | None,
    overrides: Mapping[str, Any],
) -> keras.Model:
    """`zoo.create` with weights: the variant's architecture, the checkpoint's conventions, then the user's options."""
    checkpoint = _open(family, name, weights)
    return _load(family, Request(name, family.variants[name], task, classes, overrides), checkpoint)


def from_hub(uri: str | Path, *, task: Task | None, classes: int | None, overrides: Mapping[str, Any]) -> keras.Model:
    """`zoo.from_checkpoint`: family, Config, task and classes from config.json."""
    return _matched(*described(uri), task=task, classes=classes, overrides=overrides)


def described(uri: str | Path) -> tuple[Family, HubMatch, Checkpoint]:
    """What the config.json of a checkpoint describes, and the checkpoint.

    Raises:
        FileNotFoundError: the checkpoint or its config.json is not there.
        ValueError: it describes nothing that is known.
    """
    path = locate(uri)
    folder = path if path.is_dir() else path.parent
    config = hub.read_config(folder)
    if config is None:
        raise FileNotFoundError(
            f"There is no config.json in '{folder}', so nothing says which architecture this is. "
            "If you know it: zoo.create(name, weights=...)."
        )
    checkpoint = Checkpoint(str(uri), open_tensors(path), config)
    for member in families():
        family = load_family(member)
        match = checkpoint.match(family)
        if match is not None:
            return family, match, checkpoint
    said = {key: config[key] for key in ("architecture", "model_type", "architectures") if key in config}
    raise CheckpointError(
        f"'{folder}': config.json describes {short(said) if said else 'no architecture'}, which no family here knows."
    )


def _matched(
    family: Family,
    match: HubMatch,
    checkpoint: Checkpoint,
    *,
    task: Task | None,
    classes: int | None,
    overrides: Mapping[str, Any],
) -> keras.Model:
    """The model that config.json describes, for a task of the user's choice."""

    def make(*, task: Task, classes: int | None) -> keras.Model:
        return _load(family, Request(match.variant, match.config, task, classes, options), checkpoint)

    if task == "regress" and regresses_by_logits(family, match.config):
        options = {name: value for name, value in overrides.items() if name != "target"}
        return regression(make, overrides.get("target"), classes=classes)
    options = dict(overrides)
    return make(task=task or match.task, classes=classes)


def _open(family: Family, name: str, weights: str | Path | keras.Model) -> Checkpoint:
    """What `weights=` means: a live model, a tag of the family, keras://name, or something to locate."""
    import keras

    if isinstance(weights, keras.Model):
        return _live(weights, title=f"the live model {weights.name!r}")
    if not isinstance(weights, (str, Path)):
        raise ValueError(f"weights={short(weights)} must be a tag, a URI, a path or a Keras model.")
    known = {tag: entry for tag, entry in family.pretrained.items() if tag.rpartition(".")[0] == name}
    entry = known.get(str(weights)) or known.get(f"{name}.{weights}")
    if entry is not None:
        return _open_uri(entry.uri, entry.sha256, title=str(weights), dialect=entry.dialect, overrides=entry.overrides)
    try:
        return _open_uri(str(weights), title=str(weights))
    except FileNotFoundError as error:
        tags = ", ".join(tag.rpartition(".")[2] for tag in known) or "none"
        raise FileNotFoundError(f"{error} Tags of {name!r}: {tags}. Or give hf://org/repo, a URL or a path.") from None


def _open_uri(uri: str, sha256: str = "", **known: Any) -> Checkpoint:
    """A checkpoint by URI or path, with the config.json beside it where that is a directory in Hub layout."""
    if uri.startswith("keras://"):
        return _live(_keras_application(uri.removeprefix("keras://")), **known)
    path = locate(uri, sha256=sha256)
    folder = path if path.is_dir() else path.parent
    described = path.is_dir() or path.name == "model.safetensors" or uri.startswith("hf://")
    return Checkpoint(tensors=open_tensors(path), config=hub.read_config(folder) if described else None, **known)


def _live(model: keras.Model, **known: Any) -> Checkpoint:
    overrides = {**conventions(model), **known.pop("overrides", {})}
    return Checkpoint(tensors=from_keras(model), overrides=overrides, **known)


def _keras_application(name: str) -> keras.Model:
    """A model of keras.applications with its ImageNet weights, by its name in any case."""
    import keras

    builders = {key.lower(): value for key, value in vars(keras.applications).items() if key[:1].isupper()}
    if name.lower() not in builders:
        raise CheckpointError(f"keras.applications has no model {name!r}. It has: {', '.join(sorted(builders))}.")
    if offline():
        raise FileNotFoundError(
            f"'keras://{name}' is fetched by Keras, and HF_HUB_OFFLINE=1 forbids the network. "
            "Build it yourself from your file, and give the model: weights=keras.applications.X(weights=path)."
        )
    return builders[name.lower()](weights="imagenet")


def _load(family: Family, request: Request, checkpoint: Checkpoint) -> keras.Model:
    """Find the dialect that fits by the shapes alone, and only then read the values into its model."""
    tried: list[Attempt] = []
    skeletons: dict[tuple[Any, int | None], keras.Model] = {}
    for dialect in [checkpoint.dialect] if checkpoint.dialect else family.dialects:
        tried.append(_attempt(family, request, checkpoint, dialect, skeletons))
        if not tried[-1].plan.problems:
            break
    best = min(tried, key=lambda attempt: attempt.plan.problems)
    if best.plan.problems:
        raise WeightsMismatch(_mismatch(request, checkpoint, best, tried=tried, match=checkpoint.match(family)))
    materialize(best.model, values(best.plan, checkpoint.tensors))
    for change in best.plan.adapted:
        logger.warning("%s: %s.", best.model.name, change)
    if best.plan.kept:
        logger.warning("%s: %s.", best.model.name, _fresh(best))
    return best.model


def _fresh(attempt: Attempt) -> str:
    """What the checkpoint did not have, in words."""
    heads = ", ".join(dict.fromkeys(attempt.plan.kept))
    if attempt.classes is None:
        return f"{heads}: freshly initialized; the checkpoint was saved for another task"
    had = f"{attempt.published:,} classes" if attempt.published else "no classifier"
    return f"{heads} is freshly initialized for {attempt.classes:,} classes; the checkpoint has {had}"


def _attempt(
    family: Family,
    request: Request,
    checkpoint: Checkpoint,
    name: str,
    skeletons: dict[tuple[Any, int | None], keras.Model],
) -> Attempt:
    """Compare shapes in one dialect. `skeletons` are models to share, without variables, by (Config, classes)."""
    dialect = family.dialects[name]
    task = request.task or family.tasks[0]
    published = _published_classes(dialect, checkpoint.tensors) if task in CLASSED else None
    fresh = request.classes is not None and request.classes != published
    classes = request.classes if fresh else published
    match = checkpoint.match(family)
    described = {field: getattr(match.config, field) for field in family.conventions} if match else {}
    conventions = {**dialect.overrides, **described, **checkpoint.overrides}
    published_config = configure(request.config, **conventions)
    config = configure(published_config, **request.overrides)
    key = (config, classes or family.classes)
    if key not in skeletons:
        skeletons[key] = skeleton(partial(build, family, config, name=request.name, task=request.task, classes=classes))
    model = skeletons[key]
    new_head = fresh if task in CLASSED else match is not None and match.task != task != "features"
    keep = _left_alone(model, dialect, checkpoint.tensors.shapes) if new_head else ()
    certain = "pixels" in described or "pixels" in checkpoint.overrides
    changes = adapters(model, published_config.pixels, certain=certain) if hasattr(config, "pixels") else {}
    plan = make_plan(model, checkpoint.tensors.shapes, dialect, keep=keep, adapters=changes)
    return Attempt(name, model, published, classes, plan)


def _left_alone(model: keras.Model, dialect: Dialect, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """The layers of a new head, as regexes: the logits, or all of it if the checkpoint has nothing of it."""
    for layer_class, path, variable in variables(model):
        source = dialect.source(path, layer_class, variable.name)
        if re.fullmatch(_HEAD, path) and source and any(name in shapes for name in source.names):
            return (LOGITS,)
    return (_HEAD,)


def _published_classes(dialect: Dialect, tensors: Tensors) -> int | None:
    """How many classes the classifier of the checkpoint has, or None if it has no classifier.

    Raises:
        CheckpointError: no classifier is of that size.
    """
    found = (_last_side(dialect, tensors, variable) for variable in ("bias", "kernel"))
    classes = next((side for side in found if side is not None), None)
    if classes is not None and not 1 <= classes <= _MOST_CLASSES:
        raise CheckpointError(
            f"The classifier of the checkpoint has {classes:,} classes; 1 to {_MOST_CLASSES:,} can be."
        )
    return classes


def _last_side(dialect: Dialect, tensors: Tensors, variable: str) -> int | None:
    """The last side of a variable of the logits, as our layers have it; None if the checkpoint has no such tensor."""
    source = dialect.source("head_logits", "Dense", variable)
    shape = tensors.shapes.get(source.names[0]) if source else None
    if source is None or not shape:
        return None
    try:
        return source.array([np.broadcast_to(np.float32(0), shape)], shape).shape[-1]
    except (ValueError, IndexError):  # no classifier has such a tensor; that it does not fit is told elsewhere
        return None


def _mismatch(
    request: Request, checkpoint: Checkpoint, best: Attempt, *, tried: Sequence[Attempt], match: HubMatch | None
) -> str:
    others = ", ".join(repr(attempt.dialect) for attempt in tried if attempt is not best)
    compared = f"Compared with the names of {best.dialect!r}" + (f"; also tried: {others}." if others else ".")
    described = f" Its config.json describes {match.variant!r}." if match and match.variant != request.name else ""
    return (
        f"The checkpoint {checkpoint.title!r} does not fit {request.name!r}; nothing was loaded. "
        f"{best.plan.report()} {compared}{described}"
    )
