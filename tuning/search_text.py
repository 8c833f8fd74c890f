"""Search for the best text classifier: a pretrained transformer if you name one, else small models from scratch.

python -m tuning.search_text --texts reviews.csv --budget 30m
python -m tuning.search_text --texts reviews.csv --model minilm/ --budget 2h
"""

from __future__ import annotations

from pipelines.commands.terminal import run
from pipelines.recipes import from_scratch
from pipelines.run import Run, Texts
from tuning import script, spaces
from tuning.plan import Plan


def main() -> None:
    """Make a plan of the options, and carry it out."""
    asked = script.options(__doc__, "texts", "a CSV, TSV or JSONL file with the columns text and label, or a folder")
    data = Texts(asked.texts, tokenizer=None if asked.model else "wordpiece")
    model = asked.model or "transformer_tiny"
    shared = Run(model, data, from_scratch(), asked.out, seed=asked.seed)
    if asked.model:
        space = spaces.transfer_text((asked.model,), epochs=asked.epochs)
    else:
        space = spaces.from_scratch_text(epochs=asked.epochs)
    script.carry_out(Plan(shared, space, trials=asked.trials, seed=asked.seed), asked)


if __name__ == "__main__":
    run(main)
