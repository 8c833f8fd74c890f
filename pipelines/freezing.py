"""Which layers learn: groups of layers, and the state that a phase puts them into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

import zoo
from pipelines.run import Phase

Groups = dict[str, list[keras.layers.Layer]]
GivenGroups = Mapping[str, Sequence] | Sequence[Sequence]

_BATCH_NORM = keras.layers.BatchNormalization
_DROPOUT = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)


def find_groups(model: keras.Model, given: GivenGroups | None = None) -> Groups:
    """The layer groups of a model from input to output: by its layers' names, or as given.

    `given` holds lists of layers or of layer names, from input to output: [[...], [...]], or with
    names of their own: {"base": [...], "top": [...]}.

    Raises:
        ValueError: a layer is unknown, is in two groups, or has weights and is in none.
    """
    if given is None:
        return zoo.layer_groups(model)
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
    """The names of the groups that learn in a phase, from the output toward the input."""
    order = list(groups)[::-1]
    return order if phase.unfreeze == "all" else order[: phase.unfreeze]


class Freezer:
    """Freezes and unfreezes the groups of a model, phase by phase, and puts it back as it was.

    with Freezer(model, groups) as freezer:
        freezer.apply(phase)   # then compile: Keras ignores the change until it does
    """

    def __init__(self, model: keras.Model, groups: Groups):
        self._model, self._groups = model, groups
        self._layers = list(model._flatten_layers())  # containers before what they hold
        self._trainable = [layer.trainable for layer in self._layers]
        self._rates = {id(layer): layer.rate for layer in self._layers if isinstance(layer, _DROPOUT)}

    def apply(self, phase: Phase) -> None:
        """Put every layer into the state for a phase. It takes effect at the next `compile`.

        A frozen layer's variables do not move by a bit: its BatchNormalization uses and keeps its
        moving statistics, and its Dropout passes everything.
        """
        self._model.trainable = True
        learning = set(unfrozen(self._groups, phase))
        for name, layers in self._groups.items():
            for layer in layers:
                layer.trainable = name in learning
        for layer in self._layers:
            if isinstance(layer, _BATCH_NORM) and phase.batch_norm == "frozen":
                layer.trainable = False
            if isinstance(layer, _DROPOUT):  # Keras drops even in frozen layers
                layer.rate = self._rates[id(layer)] if layer.trainable else 0.0

    def __enter__(self) -> Freezer:
        return self

    def __exit__(self, *_) -> None:
        for layer, trainable in zip(self._layers, self._trainable, strict=True):
            layer.trainable = trainable
            if isinstance(layer, _DROPOUT):
                layer.rate = self._rates[id(layer)]


def _layer(model: keras.Model, layer) -> keras.layers.Layer:
    if isinstance(layer, keras.layers.Layer):
        return layer
    try:
        return model.get_layer(layer)
    except ValueError:
        raise ValueError(f"{model.name!r} has no layer {layer!r} to put into a group.") from None


def _variables(layers: Sequence[keras.layers.Layer]) -> list[keras.Variable]:
    return [variable for layer in layers for variable in layer.weights]
