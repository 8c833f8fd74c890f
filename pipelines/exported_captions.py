"""Captions of images by an exported model, without Keras: `zoo caption` for a SavedModel or .tflite files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import marks, metadata, tokenizers
from pipelines.exported_steps import ENCODER, STEP, Writer
from pipelines.image_files import check_there, read_images
from pipelines.marks import Marks
from pipelines.tokenizers import Tokenizer
from zoo.core.family import Pixels


def is_exported(source: str | Path) -> bool:
    """Whether something is a SavedModel's folder or a .tflite file."""
    return Path(source).suffix == ".tflite" or (Path(source) / "saved_model.pb").is_file()


@dataclass(frozen=True, eq=False)
class ExportedDescriber:
    """The step of an exported captioning model, the encoder of images beside it, and what is written into its file."""

    writer: Writer
    tokenizer: Tokenizer
    marks: Marks
    pixels: Pixels
    prompt: str = ""  # that the captions it learned from begin with

    @classmethod
    def open(cls, source: str | Path) -> ExportedDescriber:
        """A SavedModel's folder, or FORMAT_step.tflite with FORMAT_encoder.tflite beside it.

        Raises:
            FileNotFoundError: a file is not there.
            ValueError: it writes no captions.
        """
        path = Path(source)
        if path.suffix == ".tflite" and not path.name.endswith(f"_{STEP}.tflite"):
            path = path.with_name(f"{path.stem}_{STEP}.tflite")
        if not path.exists():
            raise FileNotFoundError(f"There is no '{path}', which writes captions. Write it with zoo export.")
        if metadata.read_task(path) != "caption":
            raise ValueError(f"'{source}' is a model for task={metadata.read_task(path)!r}; it writes no captions.")
        tokenizer = Tokenizer.from_json(metadata.read_file(path, tokenizers.FILE), source=str(path))
        if path.suffix == ".tflite":
            encoder = path.with_name(path.name.replace(f"_{STEP}.", f"_{ENCODER}."))
            writer = Writer.of_tflite(path, encoder)
        else:
            writer = Writer.of_saved_model(path)
        said = json.loads(metadata.read_file(path, marks.FILE))
        written = Marks(said["bos_token_id"], said["eos_token_id"])
        return cls(writer, tokenizer, written, metadata.read_pixels(path), said.get("prompt", ""))

    def captions(
        self, paths: Sequence[str | Path], *, prompt: str | None = None, length: int | None = None
    ) -> list[str]:
        """The most probable caption of each image, after the prompt.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded, or the caption is longer than the step keeps tokens.
        """
        images = read_images(check_there(paths), self.pixels)
        before = self.tokenizer.library.encode(
            (self.prompt if prompt is None else prompt).rstrip(), add_special_tokens=False
        ).ids
        room = (self.writer.length or len(before) + 1) - len(before)
        if length is not None and not 1 <= length <= room:
            raise ValueError(
                f"length={length} must be 1 to {room}: the exported step keeps {self.writer.length} tokens."
            )
        found = []
        for image in images:
            self.writer.begin({"image": image})
            for token in (self.marks.start, *before):
                logits = self.writer.feed(token)
            written: list[int] = []
            for _ in range(room if length is None else length):
                written.append(int(logits.argmax()))
                if written[-1] == self.marks.end:
                    break
                if len(written) < (room if length is None else length):
                    logits = self.writer.feed(written[-1])
            found.append(self.tokenizer.decode([*before, *written]))
        return found
