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
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file

from tests.parity import packs

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
VIT_KINDS = (
    (r"patch_embed\.proj\.weight|.*\.projection\.weight", "fan_in(0.05)"),
    (r".*(attn\.proj|mlp\.fc2|output\.dense)\.weight", "fan_in(0.3)"),
)
CONVNEXT_KINDS = (
    (r".*patch_embeddings\.weight|features\.0\.0\.weight", "fan_in(0.05)"),
    (r".*\.layer_scale(_parameter)?", "uniform(0.1,0.5)"),
)


class Recipe(NamedTuple):
    """One pack to be made: a reference model, the config.json of its checkpoint, the size of its images."""

    make: Callable[[], torch.nn.Module]
    config: dict[str, Any]
    size: tuple[int, int]
    kinds: tuple[tuple[str, str], ...] = ()  # of weights, beside those that calibration finds


def timm_recipe(
    architecture: str, classes: int, size: tuple[int, int], pixels: dict[str, Any], **arguments: Any
) -> Recipe:
    def make() -> torch.nn.Module:
        import timm

        return timm.create_model(architecture, num_classes=classes, **arguments)

    config = {
        "architecture": architecture,
        "num_classes": classes,
        "pretrained_cfg": {"input_size": [3, *size], **pixels},
    }
    return Recipe(make, config, size, VIT_KINDS)


def torchvision_recipe(architecture: str, classes: int, size: tuple[int, int], **arguments: Any) -> Recipe:
    def make() -> torch.nn.Module:
        import torchvision

        return getattr(torchvision.models, architecture)(num_classes=classes, **arguments)

    config = {"library_name": "torchvision", "architecture": architecture, "num_classes": classes}
    return Recipe(make, {**config, "torchvision_args": arguments, "input_size": [3, *size], **IMAGENET}, size)


def transformers_recipe(
    name: str, size: tuple[int, int], classes: int, *, task: str = "ForImageClassification", **options: Any
) -> Recipe:
    """`name` and `task` are those of the classes: transformers.ViTConfig, transformers.ViTForImageClassification."""
    options = {"image_size": list(size), **options, "num_labels": classes}

    def make() -> torch.nn.Module:
        import transformers

        config = getattr(transformers, f"{name}Config")(**options)
        return getattr(transformers, f"{name}{task}")(config)

    config = {"model_type": name.lower(), "architectures": [f"{name}{task}"], **options}
    return Recipe(make, config, size, CONVNEXT_KINDS if name == "ConvNext" else VIT_KINDS)


RECIPES = {
    "extra_timm_mobilenetv2_035": timm_recipe("mobilenetv2_035", 7, (32, 32), IMAGENET),
    "extra_timm_tf_mobilenetv3_small_075": timm_recipe("tf_mobilenetv3_small_075", 4, (65, 96), HALF),
    "extra_timm_densenet121": timm_recipe("densenet121", 5, (47, 70), HALF),
    "extra_timm_inception_v3": timm_recipe("inception_v3", 5, (75, 116), IMAGENET),
    "extra_tv_googlenet": torchvision_recipe("googlenet", 6, (65, 98), init_weights=False),
    "extra_tv_efficientnet_b1": torchvision_recipe("efficientnet_b1", 5, (65, 47)),
    "extra_tv_efficientnet_v2_s": torchvision_recipe("efficientnet_v2_s", 6, (64, 80)),
    "extra_timm_tf_efficientnetv2_b3": timm_recipe("tf_efficientnetv2_b3", 7, (65, 47), IMAGENET),
    "extra_tv_mobilenet_v3_small": torchvision_recipe("mobilenet_v3_small", 6, (72, 72), width_mult=0.5),
    "extra_timm_vit_tiny_patch16_224": timm_recipe("vit_tiny_patch16_224", 5, (48, 80), HALF, img_size=(48, 80)),
    "extra_timm_deit_tiny_distilled_patch16_224": timm_recipe(
        "deit_tiny_distilled_patch16_224", 5, (32, 48), IMAGENET, img_size=(32, 48)
    ),
    "extra_timm_vit_xsmall_patch16_clip_224": timm_recipe(
        "vit_xsmall_patch16_clip_224", 5, (32, 48), HALF, img_size=(32, 48)
    ),
    "extra_timm_resnet26d": timm_recipe("resnet26d", 5, (65, 96), IMAGENET),
    "extra_timm_resnext50_32x4d": timm_recipe("resnext50_32x4d", 5, (64, 48), IMAGENET),
    "extra_tv_convnext_tiny": torchvision_recipe("convnext_tiny", 5, (64, 97))._replace(kinds=CONVNEXT_KINDS),
    "extra_hf_convnext": transformers_recipe(
        "ConvNext",
        (72, 72),
        9,
        image_size=72,
        hidden_sizes=[12, 20, 36, 60],
        depths=[1, 2, 1, 1],
        layer_norm_eps=1e-3,
    ),
    "extra_hf_deit_teacher": transformers_recipe(
        "DeiT",
        (32, 24),
        7,
        task="ForImageClassificationWithTeacher",
        hidden_size=40,
        num_hidden_layers=2,
        num_attention_heads=5,
        intermediate_size=72,
        patch_size=8,
    ),
    "extra_hf_vit": transformers_recipe(
        "ViT",
        (32, 52),
        11,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=100,
        patch_size=8,
        qkv_bias=False,
        hidden_act="gelu_new",
        layer_norm_eps=1e-3,
    ),
}


def make_pack(name: str, recipe: Recipe) -> dict[str, Any]:
    """The values of a pack's file."""
    model = recipe.make().eval()
    pack = packs.Pack(
        name=name,
        config=recipe.config,
        tensors=tuple((key, tuple(array.shape), str(array.dtype)) for key, array in published(model).items()),
        weight_overrides=recipe.kinds,
        inputs={"image": {"seed": f"{name}/image", "shape": [2, 3, *recipe.size], "distribution": "image"}},
        outputs={},
        tolerance={},
        weights_digest="",
    )
    image = torch.from_numpy(np.ascontiguousarray(pack.image.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        model = with_weights(model, pack)
        pack = replace(pack, weight_overrides=(*recipe.kinds, *calibrate(model, image)))
        logits = answer(model, image)
        noise = np.abs(logits - answer(model.double(), image.double())).max()
    return {
        "hub_style_config": recipe.config,
        "tensors": pack.tensors,
        "weight_overrides": pack.weight_overrides,
        "weights_digest": packs.digest(pack.weights()),
        "inputs": pack.inputs,
        "outputs": {"logits": {"shape": logits.shape, "values": [float(f"{value:.9g}") for value in logits.ravel()]}},
        "tolerance": {"atol": float(f"{max(20 * noise, 1e-5 * logits.std()):.2g}"), "rtol": 2e-5},
        "noise": float(f"{noise:.2g}"),
    }


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


def answer(model: torch.nn.Module, image: torch.Tensor) -> np.ndarray:
    """The logits, whether the library gives them alone or inside an object."""
    output = model(image)
    return getattr(output, "logits", output).numpy()


def photo_answers() -> dict[str, Any]:
    """What torchvision's MobileNetV2 says of scikit-learn's two photos, with the weights that we bundle."""
    import torchvision
    from torchvision.models import MobileNet_V2_Weights

    tensors = load_file(packs.FOLDER.parents[2] / "zoo/weights/bundled/mobilenet_v2.tv_in1k.float16.safetensors")
    model = torchvision.models.mobilenet_v2().eval()
    model.load_state_dict({name: torch.from_numpy(array).float() for name, array in tensors.items()}, strict=False)
    labels = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    answers = {}
    for name in ("china", "flower"):
        image = (packs.photo(name) / 255 - IMAGENET["mean"]) / IMAGENET["std"]
        with torch.no_grad():
            logits = answer(model, torch.from_numpy(image.transpose(2, 0, 1)[None]).float())[0]
        top5 = np.argsort(-logits)[:5].tolist()
        answers[name] = {
            "top5": top5,
            "labels": [labels[index] for index in top5],
            "logits": [float(f"{logits[index]:.7g}") for index in top5],
            "first8": [float(f"{value:.7g}") for value in logits[:8]],
        }
    return answers


if __name__ == "__main__":
    for wanted in sys.argv[1:] or (*RECIPES, "photos"):
        values = photo_answers() if wanted == "photos" else make_pack(wanted, RECIPES[wanted])
        (packs.FOLDER / f"{wanted}.json").write_text(json.dumps(values) + "\n", encoding="utf-8")
