"""A small real text set without a network: sentences of scikit-learn's documentation, by the part they explain.

They are the sentences of the docstrings in the installed scikit-learn (BSD-3-Clause), each with the module that it is
from: short technical English that nobody wrote to be classified. A set to try things out, not a benchmark.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator

from pipelines.text_files import Table

NAME = "sklearn_docs"
MODULES = ("cluster", "decomposition", "feature_extraction.text", "linear_model", "metrics", "model_selection", "tree")
_SHORTEST, _LONGEST = 5, 60  # words in a sentence
_MARKUP = re.compile(r":\w+:`~?([^`<]*?)\s*(?:<[^`]*>)?`|[`*|]+")
_SECTION = re.compile(r"^\s*-{3,}\s*$|^\s*(?:>>>|\.\. ).*$|^\s*\w+ : .*$", re.MULTILINE)


def sklearn_docs(*, text: str = "text", label: str = "label") -> Table:
    """The sentences with the modules whose objects' docstrings hold them; those in several modules are left out."""
    found: dict[str, set[str]] = {}
    places: dict[str, str] = {}
    for module in MODULES:
        for name, documentation in _docstrings(module):
            for sentence in _sentences(documentation):
                found.setdefault(sentence, set()).add(module)
                places.setdefault(sentence, f"sklearn.{module}.{name}")
    chosen = [(sentence, *modules) for sentence, modules in found.items() if len(modules) == 1]
    rows = [{text: sentence, label: module} for sentence, module in chosen]
    return Table(NAME, (text, label), rows, [places[sentence] for sentence, _ in chosen])


def _docstrings(module: str) -> Iterator[tuple[str, str]]:
    """What a module's public objects and their methods say of themselves, in order."""
    owner = importlib.import_module(f"sklearn.{module}")
    for name in sorted(set(owner.__all__) & vars(owner).keys()):  # not those that must be enabled first
        thing = getattr(owner, name)
        yield name, inspect.getdoc(thing) or ""
        for method in sorted(vars(thing)) if inspect.isclass(thing) else ():
            if not method.startswith("_") and inspect.isroutine(getattr(thing, method)):
                yield f"{name}.{method}", inspect.getdoc(getattr(thing, method)) or ""


def _sentences(documentation: str) -> Iterator[str]:
    """Whole sentences of a docstring's prose, without its markup."""
    for paragraph in re.split(r"\n\s*\n", _SECTION.sub("\n\n", documentation)):
        plain = " ".join(_MARKUP.sub(r"\1", paragraph).split())
        for sentence in re.split(r"(?<=\.)\s+(?=[A-Z])", plain):
            words = sentence.split()
            if _SHORTEST <= len(words) <= _LONGEST and sentence[0].isupper() and sentence.endswith("."):
                yield sentence
