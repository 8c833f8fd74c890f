"""Exports a bundle on its own data: test images as proof, training images as calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines import bundle, card, images, sources
from pipelines.agreement import Format, Tolerance
from pipelines.export import FORMATS, ExportReport, export
from zoo.layers.pixels import pixels_of

PROOF_IMAGES = 500
CALIBRATION_IMAGES = 200


def export_bundle(
    path: str | Path, formats: Sequence[Format] = FORMATS, *, tolerance: Tolerance | None = None
) -> ExportReport:
    """Write SavedModel and TFLite files into a bundle, and what was measured into export.json and the card.

    Up to 500 images of the run's test split (of its validation split if it has none) are the proof,
    200 of its training images calibrate int8, all through the run's own pipeline.

    Raises:
        FileNotFoundError: there is no bundle, or its data have moved.
        ExportError: a file cannot be made or disagrees with Keras; nothing was exported.
    """
    loaded = bundle.load(path)
    data = sources.load(loaded.run.data, seed=loaded.run.seed)
    if data.classes != loaded.classes:
        raise ValueError(
            f"'{path}' was trained on the classes {', '.join(loaded.classes)}; "
            f"'{loaded.run.data.source}' now holds {', '.join(data.classes)}."
        )
    model = loaded.load_model()
    pixels, seed = pixels_of(model), loaded.run.seed
    proof = data.test if len(data.test) else data.validation
    shown, labels = images.sample(proof, PROOF_IMAGES, pixels=pixels, seed=seed)
    calibration, _ = images.sample(data.train, CALIBRATION_IMAGES, pixels=pixels, seed=seed)
    report = export(
        model,
        formats,
        out=loaded.path,
        classes=loaded.classes,
        images=shown,
        labels=labels,
        calibration=calibration,
        tolerance=tolerance,
    )
    card.write(loaded.path)
    return report
