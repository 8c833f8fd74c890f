"""Who attends to whom: the attention weights of a model, computed by its own blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np


def attention_weights(model: keras.Model, inputs: Any) -> dict[str, np.ndarray]:
    """How much each position attends to each other: {"block0": (B, heads, T, T), ...}, float32, rows adding to 1.

    `inputs` are what the model takes. The names are those of its transformer blocks, from input to output. Blocks that
    attend to a context of S positions too have a second entry: {"decoder.block0.cross": (B, heads, T, S)}. Nothing is
    dropped, as in inference. The model is not changed.

    Raises:
        ValueError: the model has no transformer block, or is no functional model of Keras.
    """
    import keras

    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ValueError(f"attention_weights() takes a functional Keras model, not {type(model).__name__}.")
    calls = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)  # from input to output
        for node in model._nodes_by_depth[depth]
        if hasattr(node.operation, "attention_shares")
    ]
    if not calls:
        raise ValueError(f"{model.name!r} has no transformer block, so it has no attention weights.")
    taken = {id(tensor): tensor for node in calls for tensor in node.input_tensors}
    values = keras.Model(model.input, list(taken.values()))(inputs, training=False)
    computed = dict(zip(taken, values, strict=True))
    weights = {}
    for node in calls:
        arguments, options = node.arguments.fill_in(computed)
        options.pop("training", None)
        for kind, shares in node.operation.attention_shares(*arguments, **options).items():
            name = node.operation.name if kind == "self" else f"{node.operation.name}.{kind}"
            weights[name] = keras.ops.convert_to_numpy(shares)
    return weights
