"""Writes clip_reference.json: what transformers says of classes told in words to a small CLIP of numpy's numbers.

python -m tests.pipelines.make_clip_reference     # with torch and transformers installed
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("clip_reference.json")
TEMPLATES, CLASSES = ("a photo of a {}", "{} to go"), ("cat", "dog", "cat's dog")
TOKENS = 523


def config() -> dict:
    """Of the checkpoint."""
    shared = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    text = {**shared, "vocab_size": TOKENS, "max_position_embeddings": 20, "bos_token_id": 521, "eos_token_id": 522}
    vision = {**shared, "hidden_size": 24, "image_size": 16, "patch_size": 8}
    return {"model_type": "clip", "projection_dim": 12, "text_config": text, "vision_config": vision}


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Numbers for each tensor, by its place among the names."""
    found = {}
    for place, name in enumerate(sorted(shapes)):
        drawn = np.random.default_rng(place).normal(size=shapes[name]).astype("float32") * 0.3
        found[name] = drawn + 1 if "norm" in name and name.endswith("weight") else np.asarray(drawn)
    return {**found, "logit_scale": np.array(2.0, "float32")}


def images() -> np.ndarray:
    """(4, 16, 16, 3) uint8."""
    return np.random.default_rng(5).integers(0, 256, (4, 16, 16, 3)).astype("uint8")


def main() -> None:
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    from tests.pipelines.clip_files import files

    model = CLIPModel(CLIPConfig(**{k: v for k, v in config().items() if k != "model_type"})).eval()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if "position_ids" not in name}
    model.load_state_dict({name: torch.tensor(value) for name, value in weights(shapes).items()}, strict=False)
    tokenizer = CLIPTokenizer.from_pretrained(str(files(Path(tempfile.mkdtemp()))))
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = torch.tensor((images() / 255 - mean) / std, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        seen = model.visual_projection(model.vision_model(pixels).pooler_output)
        means = []
        for template in TEMPLATES:
            told = tokenizer([template.format(name) for name in CLASSES], padding=True, return_tensors="pt")
            read = model.text_projection(model.text_model(**told).pooler_output)
            means.append(read / read.norm(dim=-1, keepdim=True))
        wanted = torch.stack(means).mean(0)
        wanted, seen = (each / each.norm(dim=-1, keepdim=True) for each in (wanted, seen))
        shares = (model.logit_scale.exp() * seen @ wanted.T).softmax(-1)
    told = {name: list(shape) for name, shape in shapes.items()}
    FILE.write_text(json.dumps({"shapes": told, "probabilities": shares.tolist()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
