"""Small text models and a small problem on tokens, for tests of training."""

import keras
import numpy as np
import tensorflow as tf

import zoo

_TRANSFORMER = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32, "length": 12}
_OPTIONS = {
    "bert_tiny": _TRANSFORMER,
    "gpt2": _TRANSFORMER,
    "rnn_lstm": {"width": 16, "depth": 2, "embedding": 16},
}
MODELS = tuple(_OPTIONS)


def model(name: str = "bert_tiny", **options) -> keras.Model:
    """A small copy of a text model for two classes, its weights random but the same each time."""
    keras.utils.set_random_seed(0)
    return zoo.create(name, **{"task": "classify", "classes": 2, "vocabulary": 30, **_OPTIONS[name], **options})


def problem(count: int = 64, *, length: int = 10, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Texts of 3 to `length` tokens, padded, whose class says whether token 5 is among them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    ids = random.integers(6, 30, (count, length))
    mask = (np.arange(length) < random.integers(3, length + 1, (count, 1))).astype("int32")
    ids[labels == 1, 1] = 5
    return {"token_ids": (ids * mask).astype("int32"), "padding_mask": mask}, labels.astype("int32")


def dataset(model: keras.Model, count: int = 64, *, batch: int = 16, seed: int = 0) -> tf.data.Dataset:
    """The problem in batches with the inputs that the model takes, the same order in every epoch."""
    inputs, labels = problem(count, seed=seed)
    inputs |= {"segment_ids": np.zeros_like(inputs["token_ids"])} if "segment_ids" in model.input else {}
    return tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(batch)
