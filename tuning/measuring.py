"""How fast and how large a trial's model is as the .tflite file that its users would get."""

from __future__ import annotations

import shutil

from pipelines import bundle
from pipelines.deliver import samples, usual_length
from pipelines.export import export
from pipelines.exported import open_tflite
from pipelines.interface import fit_length
from pipelines.latency import median_milliseconds
from pipelines.outcome import Fitted
from tuning.job import QUANTIZED, Job
from zoo.core.family import CLASSED
from zoo.layers.auxiliary import without_auxiliary

PROOF_SAMPLES = 64  # of the validation split
CALIBRATION_SAMPLES = 100  # of the training split
ROUNDS = 5  # of timing, of which the fastest counts: another trial may have taken the processor from the others


def measured(fitted: Fitted, job: Job) -> dict[str, float]:
    """Of the file with the best weights, "latency" in milliseconds a sample and "size" in bytes, as the job asks for.

    The file is compared with Keras on validation samples, and is not kept.

    Raises:
        ExportError: it cannot be made, or disagrees with Keras.
        ValueError: no file can be made of such a model.
    """
    run, data, form = fitted.run, fitted.data, QUANTIZED[job.quantize]
    model = bundle.twin(without_auxiliary(fitted.model))
    proof = samples(run, data, model, "validation", PROOF_SAMPLES)
    assert proof is not None  # a trial has a validation split
    calibration = samples(run, data, model, "train", CALIBRATION_SAMPLES) if form == "int8" else None
    folder = job.folder / "measured"
    try:
        report = export(
            model,
            [form],
            out=folder,
            task=fitted.task,
            classes=data.classes if fitted.task in CLASSED else (),
            samples=proof.inputs,
            labels=proof.labels,
            calibration=calibration.inputs if calibration else None,
            length=usual_length(run, model, proof, calibration),
            files=data.files(),
            apart=False,
        )
        path = folder / report.rows[0].file
        one = {name: values[0] for name, values in fit_length(proof.inputs, report.lengths).items()}
        answer = open_tflite(path)
        milliseconds = min(median_milliseconds(lambda: answer(one), seconds=0.2) for _ in range(ROUNDS))
        found = {"latency": milliseconds, "size": float(path.stat().st_size)}
        return {name: found[name] for name in job.measure}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
