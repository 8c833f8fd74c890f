"""What the packs called extra_* are made of: reference models of timm, torchvision and transformers, in options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
BERT_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
VIT_KINDS = (
    (r"patch_embed\.proj\.weight|.*\.projection\.weight", "fan_in(0.05)"),
    (r".*(attn\.proj|mlp\.fc2|output\.dense)\.weight", "fan_in(0.3)"),
)
CONVNEXT_KINDS = (
    (r".*patch_embeddings\.weight|features\.0\.0\.weight", "fan_in(0.05)"),
    (r".*\.layer_scale(_parameter)?", "uniform(0.1,0.5)"),
)


TEXT_KINDS = ((r".*(query|key|[qk]_lin)\.weight", "fan_in(1.5)"),)  # so that attention is not the same everywhere


class Recipe(NamedTuple):
    """One pack to be made: a reference model, the config.json of its checkpoint, the size of its images."""

    make: Callable[[], torch.nn.Module]
    config: dict[str, Any]
    size: tuple[int, int] | None  # None: takes texts
    kinds: tuple[tuple[str, str], ...] = ()  # of weights, beside those that calibration finds
    new_tokens: int = 0  # that greedy decoding writes, after a start token


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


def text_recipe(name: str, task: str, **options: Any) -> Recipe:
    """`name` and `task` are those of the classes: transformers.BertConfig, transformers.BertForMaskedLM."""
    sizes = ("dim", "n_layers", "n_heads", "hidden_dim") if name == "DistilBert" else BERT_SIZES
    options = {**dict(zip(sizes, (64, 3, 4, 128), strict=True)), "vocab_size": 90, **options}

    def make() -> torch.nn.Module:
        import transformers

        config = getattr(transformers, f"{name}Config")(**options)
        return getattr(transformers, f"{name}{task}")(config)

    model_type = "xlm-roberta" if name == "XLMRoberta" else name.lower()
    config = {"model_type": model_type, "architectures": [f"{name}{task}"], **options}
    return Recipe(make, config, None, TEXT_KINDS)


def question_recipe(**options: Any) -> Recipe:
    """BLIP for questions about images; what it gives are the logits of the answer's next tokens."""
    text = {**dict(zip(BERT_SIZES, (64, 2, 4, 96), strict=True)), "vocab_size": 90, "max_position_embeddings": 24}
    text |= {"is_decoder": True, "bos_token_id": 88, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    text |= {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "encoder_hidden_size": 64}
    vision = {**dict(zip(BERT_SIZES, (64, 2, 4, 80), strict=True)), "image_size": 48, "patch_size": 16}
    parts = {"text_config": {**text, **options}, "vision_config": vision, "image_text_hidden_size": 40}

    def make() -> torch.nn.Module:
        import transformers

        class Answering(transformers.BlipForQuestionAnswering):
            def forward(self, pixel_values, input_ids, decoder_input_ids):
                image = self.vision_model(pixel_values).last_hidden_state
                question = self.text_encoder(input_ids, encoder_hidden_states=image).last_hidden_state
                return {"logits": self.text_decoder(decoder_input_ids, encoder_hidden_states=question).logits}

        return Answering(transformers.BlipConfig(**parts))

    config = {"model_type": "blip", "architectures": ["BlipForQuestionAnswering"], **parts}
    kinds = (*TEXT_KINDS, (r".*patch_embedding\.weight", "fan_in(0.1)"), (r".*position_embedding", "normal(0.1)"))
    return Recipe(make, config, None, kinds, new_tokens=8)


ROBERTA = {"type_vocab_size": 1, "max_position_embeddings": 34, "layer_norm_eps": 1e-5}
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
    "extra_hf_bert_tagger": text_recipe(
        "Bert",
        "ForTokenClassification",
        num_labels=5,
        type_vocab_size=3,
        hidden_act="gelu_new",
        layer_norm_eps=1e-3,
        max_position_embeddings=40,
    ),
    "extra_hf_bert_mlm_untied": text_recipe("Bert", "ForMaskedLM", tie_word_embeddings=False, hidden_act="relu"),
    "extra_hf_roberta_mlm": text_recipe("Roberta", "ForMaskedLM", **ROBERTA, hidden_act="relu"),
    "extra_hf_roberta_tagger": text_recipe(
        "Roberta", "ForTokenClassification", num_labels=3, type_vocab_size=2, max_position_embeddings=34, pad_token_id=0
    ),
    "extra_hf_xlm_roberta_qa": text_recipe("XLMRoberta", "ForQuestionAnswering", **ROBERTA),
    "extra_hf_distilbert_mlm": text_recipe("DistilBert", "ForMaskedLM", activation="relu"),
    "extra_hf_distilbert_tagger": text_recipe(
        "DistilBert", "ForTokenClassification", num_labels=4, sinusoidal_pos_embds=True
    ),
    "extra_hf_blip_vqa": question_recipe(),
    "extra_hf_distilbert_qa": text_recipe("DistilBert", "ForQuestionAnswering", max_position_embeddings=40),
}
