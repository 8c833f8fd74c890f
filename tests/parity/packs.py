"""Parity packs: weights and inputs made from names and shapes, and what a reference implementation answered.

README.md describes the format. The arithmetic of `seeded` must not change: the packs hang on its every bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "packs"
_EMBEDDING = re.compile(
    r"(embedding|embeddings|embed_tokens|embed_positions|tok_emb|text_emb|image_emb|text_pos_emb"
    r"|wte|wpe|shared|emb)\.weight"
)
_TABLE = re.compile(r"(cls_token|dist_token|pos_embed|_embeddings?|_embed|_token|query_tokens)$")


class Difference(NamedTuple):
    """How far one output is from the reference: the largest difference, and in multiples of the tolerance."""

    largest: float
    times_tolerance: float


@dataclasses.dataclass(frozen=True)
class Pack:
    """One reference model: the names and shapes of its tensors, its inputs, its outputs."""

    name: str
    config: Mapping[str, Any]  # the config.json that such a checkpoint carries
    tensors: tuple[tuple[str, tuple[int, ...], str], ...]  # (name, shape, dtype)
    weight_overrides: tuple[tuple[str, str], ...]  # (pattern, kind); the last that matches wins
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]
    tolerance: Mapping[str, Any]
    weights_digest: str
    extra_cases: tuple[Mapping[str, Any], ...] = ()  # other inputs and outputs of the same weights
    generation: Mapping[str, Any] | None = None  # what greedy decoding gave: inputs, new_tokens, sequences

    @property
    def takes_images(self) -> bool:
        """Whether its one input is an image."""
        return all(len(spec["shape"]) == 4 for spec in self.inputs.values())

    @property
    def size(self) -> dict[str, tuple[int, int]]:
        """What to build a model for, where its config.json does not say it."""
        if self.config.get("architecture") == "dall_e.Decoder":
            _, height, width = self.inputs["codes"]["shape"]
            return {"size": (8 * height, 8 * width)}
        if "z" in self.inputs or not self.takes_images:
            return {}
        return {"size": self.image.shape[1:3]}

    @property
    def image(self) -> np.ndarray:
        """The one input of an image model, normalized already: (B, H, W, 3)."""
        (image,) = arrays(self.inputs).values()
        return image.transpose(0, 2, 3, 1)

    def cases(self) -> Iterator[Pack]:
        """The pack itself, then one for each extra case, with that case's inputs and outputs."""
        yield self
        for case in self.extra_cases:
            fields = {field: case[field] for field in ("inputs", "outputs", "tolerance")}
            yield dataclasses.replace(self, name=f"{self.name}/{case['name']}", extra_cases=(), **fields)

    def weights(self) -> dict[str, np.ndarray]:
        """Every tensor of the checkpoint, by the publisher's name and in the publisher's layout."""
        return {name: self._weight(name, shape, dtype) for name, shape, dtype in self.tensors}

    def _weight(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        kind = kind_of(name, shape)
        for pattern, override in self.weight_overrides:
            if pattern == name or (set(pattern) & set("*?[(|^$\\") and re.fullmatch(pattern, name)):
                kind = override
        if kind.startswith("like:"):
            return self._weight(kind.removeprefix("like:"), shape, dtype)
        return seeded(name, shape, kind, dtype)

    def write(self, folder: Path) -> Path:
        """Put the checkpoint into a folder as the Hub has it: config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        weights = {name: np.asarray(array, order="C") for name, array in self.weights().items()}
        save_file(weights, folder / "model.safetensors")
        return folder

    def difference(self, output: str, found: np.ndarray) -> Difference:
        """How far `found`, the whole output, is from what the reference gave."""
        spec, tolerance = self.outputs[output], self.tolerance.get(output, self.tolerance)
        if list(found.shape) != spec["shape"]:
            raise ValueError(f"{self.name}: {output} has the shape {found.shape}, the reference's is {spec['shape']}.")
        wanted = np.asarray(spec["values"], "float64").ravel()
        values = found.ravel()[spec["indices"]] if "indices" in spec else found.ravel()
        distance = np.abs(values.astype("float64") - wanted)
        limit = tolerance["atol"] + tolerance["rtol"] * np.abs(wanted)
        return Difference(float(distance.max()), float((distance / limit).max()))


def names() -> tuple[str, ...]:
    """All packs, by name."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "photos"))


def load(name: str) -> Pack:
    """A pack by the name of its file."""
    values = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Pack(
        name=name,
        config=values["hub_style_config"],
        tensors=tuple((tensor, tuple(shape), dtype) for tensor, shape, dtype in values["tensors"]),
        weight_overrides=tuple((pattern, kind) for pattern, kind in values["weight_overrides"]),
        extra_cases=tuple(values.get("extra_cases", ())),
        generation=values.get("generation"),
        **{field: values[field] for field in ("inputs", "outputs", "tolerance", "weights_digest")},
    )


def arrays(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The inputs of a pack, of a case or of a generation, by the publisher's names."""
    return {name: _input(spec) for name, spec in inputs.items()}


def _input(spec: Mapping[str, Any]) -> np.ndarray:
    if "values" in spec:
        return np.asarray(spec["values"]).astype(spec["dtype"]).reshape(spec["shape"])
    return seeded(spec["seed"], spec["shape"], spec["distribution"], spec.get("dtype", "float32"))


def photo(name: str) -> np.ndarray:
    """A photo of scikit-learn's, its short side resized to 256 and its centre of 224 cut out: (224, 224, 3), RGB."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(f"{name}.jpg"))
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - 224) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


def digest(weights: Mapping[str, np.ndarray]) -> str:
    """sha256 over the little-endian bytes of every tensor, in order of name."""
    found = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        found.update(name.encode() + b"\0" + array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return found.hexdigest()


def kind_of(name: str, shape: tuple[int, ...]) -> str:
    """How a tensor is drawn where its pack does not say: by its name and shape."""
    leaf = name.rpartition(".")[2]
    by_leaf = {
        "num_batches_tracked": "zeros",
        "position_ids": "arange",
        "running_var": "uniform(0.5,1.5)",
        "logit_scale": "normal(0.1,2.6592)",
    }
    if leaf in by_leaf:
        return by_leaf[leaf]
    if leaf in ("running_mean", "beta") or leaf.startswith("bias") or leaf.endswith("bias"):
        return "normal(0.1)"
    if name.endswith("relative_attention_bias.weight"):
        return "normal(0.5)"
    if not shape:
        return "normal(0.1,1)"
    if leaf in ("gamma",) or (len(shape) == 1 and leaf in ("weight", "lambda1", "lambda2")):
        return "uniform(0.5,1.5)"
    is_table = (len(shape) == 2 and _EMBEDDING.search(name)) or (leaf != "weight" and _TABLE.search(leaf))
    return "normal(0.05)" if len(shape) == 1 or is_table else "fan_in(1)"


def seeded(name: str, shape: tuple[int, ...], kind: str, dtype: str = "float32") -> np.ndarray:
    """The tensor called `name`: drawn in float64 from a stream that hangs on the name alone, rounded once."""
    match = re.fullmatch(r"(?P<draw>\w+?)(?:\((?P<numbers>[^)]*)\))?", kind)
    if not match or match["draw"] not in _DRAWS:
        raise ValueError(f"{name}: no kind {kind!r}. Known: {', '.join(_DRAWS)}.")
    random = np.random.Generator(
        np.random.Philox(key=int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    )
    numbers = [float(number) for number in match["numbers"].split(",")] if match["numbers"] else []
    return np.asarray(_DRAWS[match["draw"]](random, tuple(shape), *numbers)).astype(dtype)


def _normal(random, shape, deviation, mean=0.0):
    return random.standard_normal(shape) * deviation + mean


def _uniform(random, shape, low, high):
    return low + (high - low) * random.random(shape)


def _fan_in(random, shape, gain, *, fan_in):
    return random.standard_normal(shape) * (gain / np.sqrt(np.prod(fan_in(shape), dtype=np.float64)))


def _image(random, shape):
    """Blocks of 32 pixels under finer noise: (N, C, H, W)."""
    batch, channels, height, width = shape
    coarse = random.standard_normal((batch, channels, -(-height // 32), -(-width // 32)))
    coarse = coarse.repeat(32, axis=2).repeat(32, axis=3)[:, :, :height, :width]
    return coarse + 0.5 * random.standard_normal(shape)


_DRAWS = {
    "zeros": lambda random, shape: np.zeros(shape),
    "ones": lambda random, shape: np.ones(shape),
    "const": lambda random, shape, value: np.full(shape, value),
    "normal": _normal,
    "uniform": _uniform,
    "fan_in": partial(_fan_in, fan_in=lambda shape: shape[1:]),
    "fan_in0": partial(_fan_in, fan_in=lambda shape: (shape[0], *shape[2:])),
    "arange": lambda random, shape: np.broadcast_to(np.arange(shape[-1]), shape),
    "tril": lambda random, shape: np.broadcast_to(np.tril(np.ones(shape[-2:])), shape),
    "randint": lambda random, shape, low, high: random.integers(int(low), int(high), size=shape),
    "image": _image,
    "image01": lambda random, shape: np.clip(0.5 + 0.22 * _image(random, shape), 0.0, 1.0),
}
