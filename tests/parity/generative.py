"""What generative models of ours answer to the inputs of a pack, by the publisher's names for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from tests.parity import answers, packs
from zoo.dalle import layout_of
from zoo.layers.pixels import PixelOutput, pixels_of

Arrays = Mapping[str, np.ndarray]


def times_tolerance(model: keras.Model, pack: packs.Pack) -> float:
    """The largest difference from what the reference answered in the pack's case, in multiples of its tolerance."""
    answer = ANSWERS.get(str(pack.config.get("architecture")))
    if answer is None:
        return answers.times_tolerance(model, pack)
    found = {name: np.asarray(value) for name, value in answer(model, packs.arrays(pack.inputs)).items()}
    assert set(found) == set(pack.outputs)
    return max(pack.difference(name, value).times_tolerance for name, value in found.items())


def image(model: keras.Model, inputs: Arrays) -> np.ndarray:
    """The pack's image, normalized already and channels first, as 0..255."""
    pixels = pixels_of(model)
    std, mean = (np.resize(values, inputs["image"].shape[1]) for values in (pixels.std, pixels.mean))
    return (inputs["image"].transpose(0, 2, 3, 1).astype("float64") * std + mean).astype("float32")


def channels_first(array) -> np.ndarray:
    return np.asarray(array).transpose(0, 3, 1, 2)


def between(model: keras.Model, name: str, x) -> np.ndarray:
    """What a layer inside gives."""
    return keras.Model(model.input, model.get_layer(name).output)(x, training=False)


def generator(model: keras.Model, inputs: Arrays) -> dict:
    given = np.asarray(model(inputs["z"][:, :, 0, 0], training=False))
    assert isinstance(model.layers[-1], PixelOutput) and 0 <= given.min() < 60 and 190 < given.max() <= 255
    return {"image": channels_first(given) / 127.5 - 1.0}


def discriminator(model: keras.Model, inputs: Arrays) -> dict:
    logit = np.asarray(model(image(model, inputs), training=False))[:, 0]
    return {"logit": logit, "probability": 1 / (1 + np.exp(-logit))}


def vae(model: keras.Model, inputs: Arrays) -> dict:
    """The pack draws from the latent's distribution; ours takes its mean in inference, so the draw is given here."""
    answer = model(image(model, inputs), training=False)
    sample = model.get_layer("neck_sample")
    latent = sample(answer["mean"], answer["log_variance"], noise=inputs["eps"])
    decoder = keras.Model(sample.output, {name: model.output[name] for name in ("image", "logits")})
    decoded = decoder(latent, training=False)
    return {
        "mu": answer["mean"],
        "logvar": answer["log_variance"],
        "z": latent,
        "reconstruction_logits": channels_first(decoded["logits"]),
        "reconstruction": channels_first(decoded["image"]) / 255.0,
    }


def encoder(model: keras.Model, inputs: Arrays) -> dict:
    """The pack's image is in 0..1, before OpenAI's mapping."""
    x = (255.0 * inputs["image"].transpose(0, 2, 3, 1)).astype("float32")
    return {"codes": model(x, training=False), "logits": channels_first(between(model, "encoder.head_logits", x))}


def decoder(model: keras.Model, inputs: Arrays) -> dict:
    codes = inputs["codes"].astype("int32")
    statistics = between(model, "decoder.head_statistics", codes)
    return {
        "pixels": channels_first(model(codes, training=False)) / 255.0,
        "stats": channels_first(statistics),
    }


def transformer(model: keras.Model, inputs: Arrays) -> dict:
    layout = layout_of(model)
    ids = layout.tokens(inputs["text"], inputs["codes"])[:, :-1]  # after the last nothing comes
    logits = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}, training=False))
    assert (logits[:, : layout.length, layout.text_ids :] < -1e8).all()
    assert (logits[:, layout.length :, : layout.text_ids] < -1e8).all()
    return {
        "text_logits": logits[:, : layout.length, : layout.text_ids],
        "image_logits": logits[:, layout.length :, layout.text_ids :],
    }


ANSWERS: Mapping[str, Callable[[keras.Model, Arrays], dict]] = {  # by the architecture of the config.json
    "DCGAN generator (PyTorch tutorial)": generator,
    "DCGAN discriminator (PyTorch tutorial)": discriminator,
    "small convolutional VAE": vae,
    "dall_e.Encoder": encoder,
    "dall_e.Decoder": decoder,
    "dalle_pytorch.DALLE": transformer,
}
