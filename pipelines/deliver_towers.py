"""Exports the two towers of a model that compares images with texts, each into a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from pipelines import card
from pipelines.agreement import Format, Tolerance
from pipelines.export import ExportReport, export
from pipelines.exportable import usual_formats
from pipelines.sampling import Drawn
from pipelines.towers import TOWERS
from pipelines.zero_shot import tower

if TYPE_CHECKING:
    import rich.console

FOLDERS: Mapping[str, str] = {kind: f"{kind}_tower" for kind in TOWERS}


@dataclass(frozen=True)
class TowerReports:
    """What was exported of each tower, by its kind."""

    reports: Mapping[str, ExportReport]

    def table(self) -> rich.console.Group:
        """The reports for a terminal."""
        from rich.console import Group

        tables = {kind: report.table() for kind, report in self.reports.items()}
        for kind, table in tables.items():
            table.title = f"{FOLDERS[kind]}: {table.title}"
        return Group(*tables.values())


def export_towers(
    model: keras.Model,
    formats: Sequence[Format] | None,
    *,
    out: Path,
    proof: Drawn,
    calibration: Drawn | None,
    length: int | None,
    files: Mapping[str, str],
    tolerance: Tolerance | None,
) -> TowerReports:
    """Write image_tower and text_tower into a bundle, and its card: files that give embeddings of length 1.

    int8 is for the image tower alone, and none of the usual formats: an embedding is compared with others, and small
    differences tell. `files` belong to the texts: tokenizer.json.

    Raises:
        ExportError: a file cannot be made or disagrees with Keras.
        ValueError: the formats leave nothing to write of a tower.
    """
    found = {}
    for kind in TOWERS:
        part = tower(model, kind)
        asked = usual_formats(part) if formats is None else formats
        chosen = [form for form in asked if form != "int8" or (kind == "image" and formats is not None)]
        if not chosen:
            raise ValueError("--tflite int8 is for images, and the text tower would have no file. Add another format.")
        found[kind] = export(
            part,
            chosen,
            out=out / FOLDERS[kind],
            task="features",
            samples=_inputs(proof, part),
            calibration=_inputs(calibration, part) if calibration is not None and kind == "image" else None,
            length=length if kind == "text" else None,
            files=files if kind == "text" else None,
            tolerance=tolerance,
        )
    card.write(out)
    return TowerReports(found)


def _inputs(drawn: Drawn, part: keras.Model) -> dict:
    return {name: values for name, values in drawn.inputs.items() if name in part.input}
