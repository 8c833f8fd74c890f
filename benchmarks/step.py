"""Images a second of one training step and of inference, against keras.applications and timm on the same CPU.

    python benchmarks/step.py [MODEL ...] [--size 160] [--batch 16] [--rounds 7] [--torch-python PYTHON]

Every contender runs in a process of its own; they take turns, round by round, so that a machine whose speed drifts
slows all of them. What is printed are medians over the rounds, and the ratio of our median to theirs. timm joins if
PYTHON (by default this one) has torch and timm. TensorFlow's oneDNN kernels are on for us and for "keras"; "keras, as
it comes" leaves TensorFlow's choice, which hangs on the processor. All weights are random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from shared.contender import Contender, declare_torchvision, race, serve

MODES = ("inference", "training")
MODELS = {  # ours: (keras.applications', timm's)
    "efficientnet_b0": ("EfficientNetB0", "efficientnet_b0"),
    "resnet50": ("ResNet50", "resnet50"),
    "mobilenet_v2": ("MobileNetV2", "mobilenetv2_100"),
    "mobilenet_v3_large": ("MobileNetV3Large", "mobilenetv3_large_100"),
    "densenet121": ("DenseNet121", "densenet121"),
    "inception_v3": ("InceptionV3", "inception_v3"),
    "vgg16": ("VGG16", "vgg16"),
    "convnext_tiny": ("ConvNeXtTiny", "convnext_tiny"),
    "vit_small16": (None, "vit_small_patch16_224"),
}


@dataclass(frozen=True)
class Job:
    """What one contender does, over and over."""

    library: str  # "zoo", "keras" or "timm"
    model: str  # by the library's own name
    mode: str
    size: int  # pixels
    batch: int


def _data(job: Job):
    import numpy as np

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (job.batch, job.size, job.size, 3)).astype("float32")
    return images, random.integers(0, 1000, job.batch)


def _keras_step(job: Job) -> Callable[[int], object]:
    import keras

    images, labels = _data(job)
    if job.library == "zoo":
        import zoo

        model = zoo.create(job.model, size=job.size)
    else:
        shape = (job.size, job.size, 3)
        model = getattr(keras.applications, job.model)(weights=None, input_shape=shape, classifier_activation=None)
    if job.mode == "inference":
        return lambda _: model.predict_on_batch(images)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    return lambda _: model.train_on_batch(images, labels)


def _torch_step(job: Job) -> Callable[[int], object]:
    import torch

    declare_torchvision()
    import timm

    values, targets = _data(job)
    options = {"img_size": job.size} if job.model.startswith("vit") else {}
    model = timm.create_model(job.model, **options)
    images, labels = torch.from_numpy(((values - 127.5) / 60).transpose(0, 3, 1, 2).copy()), torch.from_numpy(targets)
    if job.mode == "inference":
        model.eval()

        def infer(_: int) -> object:
            with torch.inference_mode():
                return model(images).numpy()

        return infer
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def train(_: int) -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def compare(model: str, mode: str, options: argparse.Namespace) -> None:
    """Print one line of the table."""
    in_keras, in_timm = MODELS[model]

    def contender(library: str, name: str, *, python: str = sys.executable, onednn: bool = True) -> Contender:
        job = Job(library, name, mode, options.size, options.batch)
        return Contender(asdict(job), python=python, environment={"TF_ENABLE_ONEDNN_OPTS": "1" if onednn else None})

    contenders = {"zoo": contender("zoo", model), "timm": contender("timm", in_timm, python=options.torch_python)}
    if in_keras:
        contenders["keras"] = contender("keras", in_keras)
        contenders["keras, as it comes"] = contender("keras", in_keras, onednn=False)
    seconds = race(contenders, options.rounds)
    ours = seconds["zoo"]
    cells = [f"{model:18} {mode:9} {options.batch / ours:7.1f}"]
    for name in ("keras", "keras, as it comes", "timm"):
        theirs = seconds.get(name)
        cells.append(f"{options.batch / theirs:7.1f} ({theirs / ours:4.2f} x)" if theirs else f"{'-':>16}")
    print("   ".join(cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one contender of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all if none is given")
    parser.add_argument("--size", type=int, default=160, help="pixels a side")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has torch and timm")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        job = Job(**json.loads(options.work))
        step = _torch_step if job.library == "timm" else _keras_step
        serve(lambda: step(job))
        return
    unknown = [name for name in options.models if name not in MODELS]
    if unknown:
        parser.error(f"no {unknown[0]!r} here; there are {', '.join(MODELS)}")
    print(f"images/s, batches of {options.batch} at {options.size} px, medians of {options.rounds} rounds")
    print(f"{'':18} {'':9} {'zoo':>7}   {'keras':>16}   {'as it comes':>16}   {'timm':>16}")
    for model in options.models or MODELS:
        for mode in MODES:
            compare(model, mode, options)


if __name__ == "__main__":
    main()
