"""What a model of ours answers to the inputs of a pack, by the publisher's names for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

import zoo
from tests.parity import packs
from zoo.layers.pixels import pixels_of

Arrange = Callable[[np.ndarray], np.ndarray]


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _ids(array: np.ndarray) -> np.ndarray:
    return array.astype("int32")


def _layers_second(states: np.ndarray) -> np.ndarray:
    """Torch has (layers, B, D), we have (B, layers, D); the other way round it is the same."""
    return np.asarray(states).swapaxes(0, 1)


def _kept(padding: np.ndarray) -> np.ndarray:
    """Torch marks what is padding, we mark what is not."""
    return 1 - padding.astype("int32")


def _channels_last(image: np.ndarray) -> np.ndarray:
    return image.transpose(0, 2, 3, 1)


_INPUTS: Mapping[str, tuple[str, Arrange]] = {  # theirs: ours, and how to turn theirs into ours
    "pixel_values": ("image", _channels_last),
    "input_ids": ("token_ids", _ids),
    "attention_mask": ("padding_mask", _ids),
    "token_type_ids": ("segment_ids", _ids),
    "decoder_input_ids": ("decoder_token_ids", _ids),
    "decoder_attention_mask": ("decoder_padding_mask", _ids),
    "src": ("series", _same),
    "src_padding": ("padding_mask", _kept),
    "tgt": ("decoder_series", _same),
    "tgt_padding": ("decoder_padding_mask", _kept),
    "x": ("series", _same),
    "h_0": ("h_0", _layers_second),
    "c_0": ("c_0", _layers_second),
}
_OUTPUTS: Mapping[str, str] = {  # of models that give a dict
    "tokens": "last_hidden_state",
    "pooled": "pooler_output",
    "image_embedding": "image_embeds",
    "text_embedding": "text_embeds",
    "logits": "logits_per_image",
}
_ONLY_OUTPUTS = ("logits", "itm_score", "last_hidden_state", "output")  # what the only output of a model may be called
_TAPPED = {"encoder_last_hidden_state": "encoder.neck", "memory": "encoder.neck"}  # the output of a group inside
_OF_IMAGES = {"image_embeds": "image.neck", "last_hidden_state": "image.neck"}  # beside what is said of texts


def feed(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | np.ndarray:
    """What the model takes, from arrays by the publisher's names: masks that are not among them are ones.

    Images, (B, 3, H, W) and normalized already, are turned back into RGB 0..255.

    Raises:
        ValueError: the model takes something that the pack does not have, or the other way round.
    """
    if not isinstance(model.input, dict):
        (image,) = inputs.values()
        return _colors(model, _channels_last(image))
    found = {}
    for theirs, array in inputs.items():
        ours, arrange = _INPUTS[theirs]
        found[ours] = arrange(array)
    if "image" in found:
        found["image"] = _colors(model, found["image"])
    for name in set(model.input) - set(found):
        found[name] = _usual(name, found)
    if set(found) != set(model.input):
        raise ValueError(f"{model.name!r} takes {sorted(model.input)}, the pack has {sorted(inputs)}.")
    return found


def _colors(model: keras.Model, image: np.ndarray) -> np.ndarray:
    pixels = pixels_of(model)
    return (image.astype("float64") * pixels.std + pixels.mean).astype("float32")


def _usual(name: str, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """A mask that is not given, ones, or segments, zeros: as many as there are tokens."""
    prefix = "decoder_" if name.startswith("decoder_") else ""
    tokens = found.get(f"{prefix}token_ids", found.get(f"{prefix}series"))
    if tokens is None or name.removeprefix(prefix) not in ("padding_mask", "segment_ids"):
        raise ValueError(f"No input of the pack is {name!r}, and nothing stands for it.")
    return np.full(tokens.shape[:2], int(name.endswith("mask")), "int32")


def answers(model: keras.Model, pack: packs.Pack) -> dict[str, np.ndarray]:
    """What a model answers to the pack's inputs, by the publisher's names."""
    fed = feed(model, packs.arrays(pack.inputs))
    answer = model(fed, training=False)
    found = _named(answer, pack.outputs)
    inside = {**_TAPPED, **({} if isinstance(answer, dict) or "image" not in fed else _OF_IMAGES)}
    for name in set(pack.outputs) & set(inside):
        found[name] = zoo.taps(model, [inside[name]])(fed, training=False)[inside[name]]
    return {name: np.asarray(value) for name, value in found.items()}


def _named(answer, wanted: Mapping[str, object]) -> dict:
    if "h_n" in wanted:
        return {
            "output": answer["tokens"],
            **{name: _layers_second(answer[name]) for name in wanted if name != "output"},
        }
    if "itm_score" in wanted and isinstance(answer, dict):
        return {"itm_score": answer["logits"]}
    if isinstance(answer, dict):
        named = {_OUTPUTS[name]: value for name, value in answer.items()}
        return {**named, **({"logits_per_text": np.transpose(answer["logits"])} if "logits" in answer else {})}
    if "start_logits" in wanted:
        return {"start_logits": answer[..., 0], "end_logits": answer[..., 1]}
    return {next(name for name in _ONLY_OUTPUTS if name in wanted): answer}


def times_tolerance(model: keras.Model, pack: packs.Pack) -> float:
    """The largest difference from what the reference answered in the pack's case, in multiples of its tolerance."""
    found = answers(model, pack)
    assert set(found) == set(pack.outputs)
    return max(pack.difference(name, value).times_tolerance for name, value in found.items())


def greedy(model: keras.Model, pack: packs.Pack) -> np.ndarray:
    """The most probable continuation of the pack's prompts, a whole pass of the model for each token: (B, T)."""
    assert pack.generation is not None
    prompt = packs.arrays(pack.generation["inputs"])
    decodes = "decoder_token_ids" in model.input
    wanted = packs.arrays({"sequences": pack.generation["sequences"]})["sequences"]
    begins = decodes or "input_ids" not in prompt  # with its start token
    sequence = wanted[:, :1] if begins else prompt["input_ids"]
    for _ in range(pack.generation["new_tokens"]):
        tokens = {**prompt, "decoder_input_ids" if decodes else "input_ids": sequence}
        logits = np.asarray(model(feed(model, tokens), training=False))
        sequence = np.concatenate([sequence, logits[:, -1:].argmax(-1)], axis=1)
    return sequence
