"""Vision Transformers: the publishers' names and options, and what is refused. Their numbers are in tests/parity."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.parity import packs
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.layers.pixels import pixels_of
from zoo.weights.errors import CheckpointError

FAMILY = load_family("vit")
TINY = {"patch": 8, "width": 12, "depth": 2, "heads": 3, "mlp_width": 20, "size": (16, 24)}
TORCHVISION = {  # by the names of timm
    "patch_embed.proj": "conv_proj",
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "norm": "encoder.ln",
    "head": "heads.head",
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attn.proj": "self_attention.out_proj",
}


def timm_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """A checkpoint of a ViT with the options TINY and five classes, in timm's names."""
    random = np.random.default_rng(seed)
    shapes = {"cls_token": (1, 1, 12), "pos_embed": (1, 7, 12)}
    modules = {"patch_embed.proj": (12, 3, 8, 8), "norm": (12,), "head": (5, 12)}
    for block in range(2):
        modules |= {f"blocks.{block}.norm{index}": (12,) for index in (1, 2)}
        modules |= {f"blocks.{block}.attn.qkv": (36, 12), f"blocks.{block}.attn.proj": (12, 12)}
        modules |= {f"blocks.{block}.mlp.fc1": (20, 12), f"blocks.{block}.mlp.fc2": (12, 20)}
    for module, shape in modules.items():
        shapes |= {f"{module}.weight": shape, f"{module}.bias": shape[:1]}
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def torchvision_name(name: str, mlp: tuple[str, str]) -> str:
    """What torchvision calls a tensor that timm calls `name`."""
    if name in TORCHVISION:
        return TORCHVISION[name]
    module, _, leaf = name.rpartition(".")
    if not module.startswith("blocks."):
        return f"{TORCHVISION[module]}.{leaf}"
    _, block, part = module.split(".", 2)
    prefix = f"encoder.layers.encoder_layer_{block}"
    if part == "attn.qkv":
        return f"{prefix}.self_attention.in_proj_{leaf}"
    return f"{prefix}.{ {**TORCHVISION, 'mlp.fc1': mlp[0], 'mlp.fc2': mlp[1]}[part] }.{leaf}"


def logits(model: keras.Model) -> np.ndarray:
    image = np.random.default_rng(1).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    return np.asarray(model(image, training=False))


@pytest.mark.parametrize("mlp", [("mlp.0", "mlp.3"), ("mlp.linear_1", "mlp.linear_2")])
def test_the_names_of_torchvision(tmp_path, mlp):
    tensors = timm_tensors()
    save_file(tensors, tmp_path / "timm.safetensors")
    save_file({torchvision_name(name, mlp): array for name, array in tensors.items()}, tmp_path / "tv.safetensors")
    timm, torchvision = (
        zoo.create("vit_tiny16", weights=tmp_path / f"{name}.safetensors", **TINY) for name in ("timm", "tv")
    )
    np.testing.assert_array_equal(logits(torchvision), logits(timm))


def shapes_of(size: str, patch: int, *, image: int, blocks: str, **names: str) -> dict[str, tuple[int, ...]]:
    """The few tensors that a description is compared with."""
    width, depth, mlp = {"base": (768, 12, 3072), "large": (1024, 24, 4096), "huge": (1280, 32, 5120)}[size]
    return {
        names["patches"]: (width, 3, patch, patch),
        names["positions"]: (1, (image // patch) ** 2 + 1, width),
        **{blocks.format(block): (mlp, width) for block in range(depth)},
    }


@pytest.mark.parametrize(
    ("architecture", "variant", "size", "patch", "image", "arguments"),
    [
        ("vit_b_16", "vit_base16", "base", 16, 224, {}),
        ("vit_b_32", "vit_base32", "base", 32, 64, {"image_size": 64}),
        ("vit_l_16", "vit_large16", "large", 16, 224, {}),
        ("vit_l_32", "vit_large32", "large", 32, 224, {}),
        ("vit_h_14", "vit_huge14", "huge", 14, 518, {"image_size": 518}),
    ],
)
def test_torchvision_tells_the_size_by_name(architecture, variant, size, patch, image, arguments):
    config = {"library_name": "torchvision", "architecture": architecture, "torchvision_args": arguments}
    block = "encoder.layers.encoder_layer_{}.mlp.0.weight"
    shapes = shapes_of(
        size, patch, image=image, blocks=block, patches="conv_proj.weight", positions="encoder.pos_embedding"
    )
    found = FAMILY.from_hub(config, shapes)
    huge = {"width": 1280, "depth": 32, "mlp_width": 5120}  # not among the variants: it takes 2.5 GB
    named = FAMILY.variants.get(variant) or replace(FAMILY.variants["vit_large14"], **huge)
    assert found.variant == variant
    assert found.config.pixels.size == image
    for field in ("patch", "width", "depth", "heads", "mlp_width", "epsilon", "activation"):
        assert getattr(found.config, field) == getattr(named, field)
    with pytest.raises(CheckpointError, match="representation_size"):
        FAMILY.from_hub(config | {"torchvision_args": {"representation_size": 8}}, shapes)


@pytest.mark.parametrize(
    ("architecture", "variant", "activation"),
    [
        ("vit_base_patch32_clip_224", "vit_base32_clip", "gelu"),
        ("vit_base_patch32_clip_quickgelu_224", "vit_base32_clip", "quick_gelu"),
        ("vit_base_patch32_224", "vit_base32", "gelu"),
    ],
)
def test_timm_tells_the_tower_of_clip_by_name(architecture, variant, activation):
    names = {"patches": "patch_embed.proj.weight", "positions": "pos_embed"}
    shapes = shapes_of("base", 32, image=224, blocks="blocks.{}.mlp.fc1.weight", **names)
    found = FAMILY.from_hub({"architecture": architecture, "num_classes": 512}, shapes)
    clip = "clip" in architecture
    assert (found.variant, found.classes, found.config.activation) == (variant, 512, activation)
    assert (found.config.stem_norm, found.config.patch_bias, found.config.epsilon) == (
        clip,
        not clip,
        1e-5 if clip else 1e-6,
    )


@pytest.mark.parametrize(
    "architecture",
    ["vit_base_patch16_siglip_224", "vit_small_patch14_dinov2", "vit_base_patch16_gap_224", "vit_wee_patch16_224"],
)
def test_a_vit_with_other_parts_is_refused_by_name(architecture):
    with pytest.raises(CheckpointError, match=f"{architecture}' is a Vision Transformer with parts.*tiny, small"):
        FAMILY.from_hub({"architecture": architecture}, {})


def test_a_checkpoint_with_registers_or_layer_scale_does_not_fit(tmp_path):
    for extra in ("reg_token", "blocks.0.ls1.gamma"):
        save_file({**timm_tensors(), extra: np.ones(12, "float32")}, tmp_path / "a.safetensors")
        with pytest.raises(CheckpointError, match=rf"Not used 1: {extra}\."):
            zoo.create("vit_tiny16", weights=tmp_path / "a.safetensors", **TINY)


@pytest.mark.parametrize(
    ("lost", "task", "teacher"),
    [((), "classify", True), (("distillation_classifier",), "classify", False), (("_classifier",), "features", False)],
)
def test_transformers_tells_deit_with_and_without_its_teacher(lost, task, teacher):
    pack = packs.load("extra_hf_deit_teacher")
    names = [
        name.replace("cls_classifier", "classifier") if lost == ("distillation_classifier",) else name
        for name, *_ in pack.tensors
    ]
    shapes = {name: shape for name, (_, shape, _) in zip(names, pack.tensors, strict=True)}
    kept = {name: shape for name, shape in shapes.items() if not any(word in name for word in lost)}
    config = {**pack.config, "architectures": ["DeiTModel" if task == "features" else "DeiTForImageClassification"]}
    found = FAMILY.from_hub(config, kept)
    assert (found.task, found.config.distilled, found.config.teacher_head) == (task, True, teacher)
    assert found.classes == (7 if task == "classify" else None)


def test_without_a_teacher_the_second_token_takes_no_part_in_the_logits():
    options = {**TINY, "classes": 5}
    both, first = (zoo.create("deit_tiny16_distilled", teacher_head=teacher, **options) for teacher in (True, False))
    weights = {variable.path: variable for variable in both.weights}
    for variable in first.weights:
        variable.assign(weights[variable.path])
    assert {path.partition("/")[0] for path in weights} - {v.path.partition("/")[0] for v in first.weights} == {
        "head_logits_distilled"
    }
    for variable in both.get_layer("head_logits_distilled").weights:
        variable.assign(0 * variable)
    np.testing.assert_allclose(2 * logits(both), logits(first), rtol=1e-5, atol=1e-6)


def test_the_preprocessor_of_transformers_tells_the_crop():
    pack = packs.load("extra_hf_deit_teacher")
    shapes = {name: shape for name, shape, _ in pack.tensors}
    for size in (256, {"shortest_edge": 256}, {"height": 256, "width": 300}):
        preprocessor = {"do_center_crop": True, "size": size, "crop_size": {"height": 224, "width": 224}}
        found = FAMILY.from_hub({**pack.config, "preprocessor": preprocessor}, shapes)
        assert found.config.pixels.crop == 0.875
    assert FAMILY.from_hub(pack.config, shapes).config.pixels.crop == 1.0
    with pytest.raises(CheckpointError, match="crop_size=None"):
        FAMILY.from_hub({**pack.config, "preprocessor": {"do_center_crop": True, "size": 256}}, shapes)


@pytest.mark.parametrize("key", ["hidden_act", "image_size"])
def test_values_of_any_length_are_shown_shortened(key):
    pack = packs.load("hf_vit_cls")
    shapes = {name: shape for name, shape, _ in pack.tensors}
    with pytest.raises(CheckpointError) as error:
        FAMILY.from_hub({**pack.config, key: "x" * 10**6}, shapes)
    assert len(str(error.value)) < 300


def test_images_too_small_for_a_patch_say_what_is_needed():
    with pytest.raises(ValueError, match=r"30 x 64 pixels hold no patch of 32\. Give a size of at least 32"):
        zoo.create("vit_small32", size=(30, 64))


@pytest.mark.parametrize(("size", "length"), [(384, 577), ((256, 192), 193), ((250, 199), 181)])
def test_any_size_whole_patches_or_not(size, length):
    model = skeleton(lambda: zoo.create("vit_tiny16", task="features", size=size))
    assert model.output_shape == (None, length, 192)
    assert pixels_of(model).size == size
