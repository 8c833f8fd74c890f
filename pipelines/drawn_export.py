"""What the export of a model that draws after texts takes: whole sequences as samples, and the decoder of its codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from pipelines import bundle, objectives
from pipelines.agreement import Format
from pipelines.codebook import DECODER
from pipelines.datasets import Dataset, Part
from pipelines.export import ExportReport, export
from pipelines.run import Run
from pipelines.sampling import Drawn
from zoo.dalle import layout_of

FOLDER = "decoder"  # of the decoder's files, in that of the run


def sequences(run: Run, data: Dataset, model: keras.Model, part: Part, count: int) -> Drawn:
    """The tokens of the first captions and images of a part but the last one, and of each the next as its label."""
    objective = objectives.of_run(run, data)
    assert objective.reader is not None, "it makes tokens of pairs"
    reader, found = objective.reader(model), []
    batches = data.evaluation_set(reader, part, batch=run.batch)  # type: ignore[arg-type]  # settled
    for inputs, *_ in objective.complete(batches, seed=run.seed, training=False):
        found.append(np.asarray(reader(inputs, training=False)["tokens"]))
        if sum(map(len, found)) >= count:
            break
    tokens = np.concatenate(found)[:count]
    inputs = {"token_ids": tokens[:, :-1], "padding_mask": np.ones_like(tokens[:, :-1])}
    return Drawn(inputs, tokens[:, 1:])


def export_decoder(
    path: Path, model: keras.Model, proof: Drawn, formats: Sequence[Format] | None
) -> ExportReport | None:
    """The files of the decoder of codes in a folder of their own, compared on codes of real images.

    Those of int8 have no place here: codes are no numbers whose range is calibrated.
    """
    chosen = [form for form in formats or () if form != "int8"]
    if formats is not None and not chosen:
        return None
    layout = layout_of(model)
    codes = proof.inputs["token_ids"][:, layout.image :] - layout.text_ids  # but for the last one
    last = proof.labels[:, -1:] - layout.text_ids  # type: ignore[index]  # sequences have labels
    grids = np.concatenate([codes, last], axis=1).reshape(-1, layout.rows, layout.columns)
    decoder = bundle.load_model(path / DECODER)
    return export(decoder, chosen or None, out=path / FOLDER, task="decode", samples={"codes": grids})
