"""Which layers learn: groups of layers, and the state that a phase puts them into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras

import zoo
from pipelines import lora, towers
from pipelines.run import Phase

Groups = dict[str, list[keras.layers.Layer]]
GivenGroups = Mapping[str, Sequence] | Sequence[Sequence]

_BATCH_NORM = keras.layers.BatchNormalization
_DROPOUT = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
_CELLS = (keras.layers.SimpleRNNCell, keras.layers.LSTMCell, keras.layers.GRUCell)


def find_groups(model: keras.Model, given: GivenGroups | None = None) -> Groups:
    """The layer groups of a model from input to output: by its layers' names, or as given.

    Two towers that meet at the output alone go through their groups side by side, see `pipelines.towers`.

    `given` holds lists of layers or of layer names, from input to output: [[...], [...]], or with
    names of their own: {"base": [...], "top": [...]}.

    Raises:
        ValueError: a layer is unknown, is in two groups, or has weights and is in none; or the model is not built.
    """
    if not model.built:
        raise ValueError(f"{model.name!r} has no weights yet. Begin it with a keras.Input(shape), which builds it.")
    if given is None:
        groups = towers.together(model, zoo.layer_groups(model))
    else:
        named = given if isinstance(given, Mapping) else {f"group{i}": layers for i, layers in enumerate(given)}
        groups = {name: [_layer(model, layer) for layer in layers] for name, layers in named.items()}
    owner: dict[int, str] = {}
    for name, layers in groups.items():
        for variable in _variables(layers):
            if owner.setdefault(id(variable), name) != name:
                raise ValueError(f"{variable.path!r} is in two groups, {owner[id(variable)]!r} and {name!r}.")
    left = [variable.path for variable in model.weights if id(variable) not in owner]
    if left:
        raise ValueError(
            f"{len(left)} weights of {model.name!r} are in no group, such as {left[0]!r}. "
            "Every layer with weights belongs to exactly one group, from input to output."
        )
    return groups


def unfrozen(groups: Groups, phase: Phase) -> list[str]:
    """The names of the groups that learn in a phase, from the output toward the input.

    With LoRA those are the last one, and of the others that are unfrozen the ones with attention to adapt.

    Raises:
        ValueError: there is LoRA to do and none of the groups has attention.
    """
    order = list(groups)[::-1]
    chosen = order if phase.unfreeze == "all" else order[: phase.unfreeze]
    if not phase.lora:
        return chosen
    adapted = [name for name in chosen[1:] if lora.projections(groups[name], mlp=phase.lora_mlp)]
    if not adapted:
        raise ValueError(
            f"Phase(lora={phase.lora}, unfreeze={phase.unfreeze!r}) adapts the attention of the groups before the last "
            f"one, and there is none in {', '.join(chosen[1:]) or 'no group'}. LoRA is for transformers; for other "
            "models take the recipe fine_tuning."
        )
    return [chosen[0], *adapted]


def check_phases(groups: Groups, phases: Iterable[Phase]) -> None:
    """Refuse phases that these groups cannot go through, before any of them has begun.

    Raises:
        ValueError: as `unfrozen`.
    """
    for phase in phases:
        unfrozen(groups, phase)


class Freezer:
    """Freezes and unfreezes the groups of a model, phase by phase, and puts it back as it was.

    with Freezer(model, groups) as freezer:
        freezer.apply(phase)   # then compile: Keras ignores the change until it does
    """

    def __init__(self, model: keras.Model, groups: Groups):
        self._model, self._groups = model, groups
        self._layers = list(model._flatten_layers())  # containers before what they hold
        self._trainable = [layer.trainable for layer in self._layers]
        self._shares = [(layer, name, getattr(layer, name)) for layer in self._layers for name in dropping(layer)]
        self._rank = 0

    def apply(self, phase: Phase) -> None:
        """Put every layer into the state for a phase. It takes effect at the next `compile`.

        A frozen layer's variables do not move by a bit: its BatchNormalization uses and keeps its
        moving statistics, and its Dropout passes everything. With LoRA, the groups before the last one
        learn in small factors beside their kernels, which are merged into them when the next phase does
        without, and at the end.

        Raises:
            ValueError: there is LoRA to do and none of the groups has attention.
        """
        learning = unfrozen(self._groups, phase)
        if phase.lora != self._rank:
            lora.merge(self._model)
        self._rank = phase.lora
        self._model.trainable = True
        for name, layers in self._groups.items():
            for layer in layers:
                _set_trainable(layer, name in learning)
        for name in learning[1:] if phase.lora else ():
            lora.adapt(self._groups[name], rank=phase.lora, mlp=phase.lora_mlp)
        for layer in self._layers:
            if isinstance(layer, _BATCH_NORM) and phase.batch_norm == "frozen":
                layer.trainable = False
        for layer, name, share in self._shares:  # Keras drops even in frozen layers
            setattr(layer, name, share if layer.trainable else 0.0)

    def __enter__(self) -> Freezer:
        return self

    def __exit__(self, *_) -> None:
        lora.merge(self._model)
        for layer, trainable in zip(self._layers, self._trainable, strict=True):
            _set_trainable(layer, trainable)
        for layer, name, share in self._shares:
            setattr(layer, name, share)


def _set_trainable(layer: keras.layers.Layer, value: bool) -> None:
    """Set a layer and all that is in it: Keras does nothing where the layer's own flag has that value already."""
    layer.trainable = not value
    layer.trainable = value


def dropping(layer: keras.layers.Layer) -> tuple[str, ...]:
    """The attributes that say how much a layer drops while it trains."""
    if isinstance(layer, _DROPOUT):
        return ("rate",)
    return ("dropout", "recurrent_dropout") if isinstance(layer, _CELLS) else ()


def _layer(model: keras.Model, layer) -> keras.layers.Layer:
    if isinstance(layer, keras.layers.Layer):
        return layer
    try:
        return model.get_layer(layer)
    except ValueError:
        raise ValueError(f"{model.name!r} has no layer {layer!r} to put into a group.") from None


def _variables(layers: Sequence[keras.layers.Layer]) -> list[keras.Variable]:
    return [variable for layer in layers for variable in layer.weights]
