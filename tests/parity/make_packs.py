"""Make the packs called extra_*: for people with torch, timm, torchvision and transformers. README.md says when.

    python -m tests.parity.make_packs [NAME ...]

The reference's norms are calibrated while it runs, so that activations stay near one in every layer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from tests.parity import packs
from tests.parity.recipes import IMAGENET, RECIPES, Recipe


def make_pack(name: str, recipe: Recipe) -> dict[str, Any]:
    """The values of a pack's file."""
    model = recipe.make().eval()
    pack = packs.Pack(
        name=name,
        config=recipe.config,
        tensors=tuple((key, tuple(array.shape), str(array.dtype)) for key, array in published(model).items()),
        weight_overrides=recipe.kinds,
        inputs=inputs_of(name, recipe),
        outputs={},
        tolerance={},
        weights_digest="",
    )
    inputs = {key: torch.from_numpy(array) for key, array in packs.arrays(pack.inputs).items()}
    with torch.no_grad():
        model = with_weights(model, pack)
        if recipe.size:
            pack = replace(pack, weight_overrides=(*recipe.kinds, *calibrate(model, inputs["image"])))
        found = answers(model, inputs)
        generation = greedy(name, model, recipe) if recipe.new_tokens else None
        exact = answers(model.double(), {key: double(tensor) for key, tensor in inputs.items()})
    noise = {key: np.abs(found[key] - exact[key]).max() for key in found}
    tolerances = {
        key: {"atol": float(f"{max(20 * noise[key], 1e-5 * found[key].std()):.2g}"), "rtol": 2e-5} for key in found
    }
    return {
        "hub_style_config": recipe.config,
        "tensors": pack.tensors,
        "weight_overrides": pack.weight_overrides,
        "weights_digest": packs.digest(pack.weights()),
        "inputs": pack.inputs,
        "outputs": {
            key: {"shape": array.shape, "values": [float(f"{value:.9g}") for value in array.ravel()]}
            for key, array in found.items()
        },
        "tolerance": {**next(iter(tolerances.values())), **(tolerances if len(tolerances) > 1 else {})},
        "noise": float(f"{max(noise.values()):.2g}"),
        **({} if generation is None else {"generation": generation}),
    }


def inputs_of(name: str, recipe: Recipe) -> dict[str, Any]:
    if recipe.size:
        return image_input(name, recipe.size)
    return question_inputs(name, recipe.config) if recipe.new_tokens else text_inputs(name, recipe.config)


def image_input(name: str, size: tuple[int, int]) -> dict[str, Any]:
    return {"image": {"seed": f"{name}/image", "shape": [2, 3, *size], "distribution": "image"}}


def text_inputs(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Two texts of 11 tokens, the second with three places of padding; three segments where there are so many."""
    shape = (2, 11)
    padding = np.zeros(shape, bool)
    padding[1, -3:] = True
    usual = 1 if "oberta" in name else 0
    ids = packs.seeded(f"{name}/input_ids", shape, f"randint(3,{config['vocab_size']})", "int64")
    ids[padding] = config.get("pad_token_id", usual)
    arrays = {"input_ids": ids, "attention_mask": 1 - padding.astype("int64")}
    segments = 1 if "distilbert" in name else config.get("type_vocab_size", 2)
    if segments > 1:
        arrays["token_type_ids"] = np.minimum(np.arange(11) // 4, segments - 1) * np.ones(shape, "int64")
    return {
        key: {"shape": shape, "dtype": "int64", "distribution": "explicit", "values": array.ravel().tolist()}
        for key, array in arrays.items()
    }


def question_inputs(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Two images, a question about each, and the beginnings of two answers; padding does not count for transformers."""
    text, side = config["text_config"], config["vision_config"]["image_size"]
    found = {"pixel_values": {"seed": f"{name}/pixel_values", "shape": [2, 3, side, side], "distribution": "image"}}
    for key, length in (("input_ids", 11), ("decoder_input_ids", 6)):
        ids = packs.seeded(f"{name}/{key}", (2, length), f"randint(3,{text['vocab_size']})", "int64")
        ids[:, 0] = text["bos_token_id"] if key.startswith("decoder") else ids[:, 0]
        found[key] = {"shape": ids.shape, "dtype": "int64", "distribution": "explicit", "values": ids.ravel().tolist()}
    return found


def greedy(name: str, model: torch.nn.Module, recipe: Recipe) -> dict[str, Any]:
    """The most probable answer to each question, a whole pass for each token."""
    inputs = question_inputs(name, recipe.config)
    specs = {key: inputs[key] for key in ("pixel_values", "input_ids")}
    given = {key: torch.from_numpy(array) for key, array in packs.arrays(specs).items()}
    ids = torch.full((2, 1), recipe.config["text_config"]["bos_token_id"])
    for _ in range(recipe.new_tokens):
        logits = model(**given, decoder_input_ids=ids)["logits"]
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    sequences = {"shape": list(ids.shape), "dtype": "int64", "values": ids.ravel().tolist()}
    return {"inputs": specs, "new_tokens": recipe.new_tokens, "sequences": sequences}


def double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def published(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The tensors of a model by the names that its library writes to a file."""
    if not hasattr(model, "save_pretrained"):
        return {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder, "model.safetensors"))


def with_weights(model: torch.nn.Module, pack: packs.Pack) -> torch.nn.Module:
    """The model with the weights of the pack, read by the library's own loader."""
    if not hasattr(model, "from_pretrained"):
        model.load_state_dict({name: torch.from_numpy(array) for name, array in pack.weights().items()})
        return model
    with TemporaryDirectory() as folder:
        return type(model).from_pretrained(pack.write(Path(folder))).eval()


def calibrate(model: torch.nn.Module, image: torch.Tensor) -> list[tuple[str, str]]:
    """Give every batch norm a variance near that of what it sees; the kinds that draw these variances."""
    kinds: list[tuple[str, str]] = []

    def before(name: str) -> Callable[..., None]:
        def hook(norm: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
            seen = float(inputs[0].var())
            kind = f"uniform({0.5 * seen:.3g},{1.5 * seen:.3g})"
            kinds.append((f"{name}.running_var", kind))
            drawn = packs.seeded(f"{name}.running_var", tuple(norm.running_var.shape), kind)
            norm.running_var.copy_(torch.from_numpy(drawn))

        return hook

    norms = {name: each for name, each in model.named_modules() if isinstance(each, torch.nn.BatchNorm2d)}
    hooks = [norm.register_forward_pre_hook(before(name)) for name, norm in norms.items()]
    model(image)
    for hook in hooks:
        hook.remove()
    return kinds


def answers(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """What a model gives by name; logits, where the library gives them alone."""
    output = model(*inputs.values()) if "image" in inputs else model(**inputs)
    if isinstance(output, torch.Tensor):
        return {"logits": output.numpy()}
    given = ("logits",) if "logits" in output else tuple(output)
    return {key: output[key].numpy() for key in given if isinstance(output[key], torch.Tensor)}


def photo_answers() -> dict[str, Any]:
    """What torchvision's MobileNetV2 says of scikit-learn's two photos, with the weights that we bundle."""
    import torchvision
    from torchvision.models import MobileNet_V2_Weights

    tensors = load_file(packs.FOLDER.parents[2] / "zoo/weights/bundled/mobilenet_v2.tv_in1k.float16.safetensors")
    model = torchvision.models.mobilenet_v2().eval()
    model.load_state_dict({name: torch.from_numpy(array).float() for name, array in tensors.items()}, strict=False)
    labels = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    told = {}
    for name in ("china", "flower"):
        image = (packs.photo(name) / 255 - IMAGENET["mean"]) / IMAGENET["std"]
        with torch.no_grad():
            inputs = {"image": torch.from_numpy(image.transpose(2, 0, 1)[None]).float()}
            logits = answers(model, inputs)["logits"][0]
        top5 = np.argsort(-logits)[:5].tolist()
        told[name] = {
            "top5": top5,
            "labels": [labels[index] for index in top5],
            "logits": [float(f"{logits[index]:.7g}") for index in top5],
            "first8": [float(f"{value:.7g}") for value in logits[:8]],
        }
    return told


if __name__ == "__main__":
    for wanted in sys.argv[1:] or (*RECIPES, "photos"):
        values = photo_answers() if wanted == "photos" else make_pack(wanted, RECIPES[wanted])
        (packs.FOLDER / f"{wanted}.json").write_text(json.dumps(values) + "\n", encoding="utf-8")
