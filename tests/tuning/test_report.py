import csv
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuning.searches import REASON, plan_of, scores_of, search
from tuning import report, standing
from tuning.journal import NAME, Journal
from tuning.terminal import trials_table

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a page holds: its elements with their attributes, its words, and those that were not closed in order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.wrong, self._open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def rows(self) -> list[dict]:
        return [attributes for tag, attributes in self.elements if tag == "tr" and "data-trial" in attributes]

    def groups(self, kind: str) -> set[int]:
        names = [attributes.get("id", "") for tag, attributes in self.elements if tag == "g"]
        return {int(found[1]) for name in names if (found := re.match(rf"{kind}-(\d+)", name))}


def page_of(folder: Path, **options) -> Page:
    page = Page(report.write(folder, **options).read_text(encoding="utf-8"))
    assert page.wrong == []
    return page


def shown(folder: Path, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=False)
    report.show(folder, console=console)
    return console.file.getvalue()


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """Twenty trials, each sixth failed, two that run."""
    return search(tmp_path_factory.mktemp("search") / "usual", 20, fails=lambda number: number % 6 == 5, running=2)


@pytest.fixture(scope="module")
def page(usual):
    return page_of(usual)


def test_a_page_holds_all_trials_and_needs_nothing_from_elsewhere(usual, page):
    text = (usual / report.NAME).read_text(encoding="utf-8")
    assert {int(row["data-trial"]) for row in page.rows()} == set(range(22))
    assert page.groups("parallel") == set(range(20))  # those that run have no place on the axis of scores yet
    assert page.groups("curve") == set(range(22))
    assert not re.search(r"https?:|@import|<link|\ssrc=|url\((?!#)", text)


def test_the_best_trial_its_values_and_what_to_do_next_come_first(usual, page):
    found = standing.read(usual)
    rate = {trial.id: scores_of(trial.values)["val_loss"] for trial in found.trials if trial.status == "completed"}
    best = min(rate, key=rate.get)
    assert found.best.id == best
    assert page.rows()[0] == {"data-trial": str(int(best)), "class": "best"}
    assert page.text.index(f"Best: trial {best}") < page.text.index("What was tried")
    assert f"zoo tune --resume {usual}" in page.text


def test_a_reason_is_told_as_it_is_wherever_it_is_told(usual, page):
    assert page.text.count(REASON) == 4  # once for all, and for each of the three
    assert f"3 x {REASON}" in shown(usual)


def test_the_terminal_has_a_column_for_each_range_where_there_is_room(usual):
    found = standing.read(usual)
    wide, narrow = ([column.header for column in trials_table(found, width=width).columns] for width in (240, 80))
    assert wide == [
        "trial",
        "status",
        "val_loss",
        "batch",
        "recipe",
        "learning_rate",
        "rank",
        "loss",
        "note",
        "epochs",
        "time",
    ]
    assert narrow == ["trial", "status", "val_loss", "values", "epochs", "time"]
    assert found.progress == "20 of 22 trials, 3 failed, 2 waiting to go on"


def test_names_that_look_like_html_or_markup_are_text(tmp_path):
    ranges = {"weights": ["<script>alert(1)</script>", "a&b\"'>", "$x^2$", "[bold]x[/bold]", "</svg>", "[/red]"]}
    folder = search(tmp_path / "a [red]b[/] & <i>c", 12, ranges=ranges, fails=lambda number: number == 3)
    page = page_of(folder)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "<script>alert(1)</script>" in page.text and "a&b\"'>" in page.text
    assert "[bold]x[/bold]" in shown(folder, 200)


@pytest.mark.parametrize("ended", [0, 1, 5])
def test_few_trials_or_only_failures_have_a_page(tmp_path, ended):
    folder = search(tmp_path / "search", ended, trials=12, fails=lambda number: True, running=ended % 2)
    page, text = page_of(folder), shown(folder)
    assert "No trial has a score" in page.text
    assert f"{ended} of 12 trials" in page.text and f"{ended} of 12 trials" in text
    assert len(lines_of(folder / "trials.csv")) == ended + ended % 2


def test_one_trial_is_the_best_one(tmp_path):
    page = page_of(search(tmp_path / "search", 1))
    assert "Best: trial 0000" in page.text
    assert "Too few to tell what matters: 1 completed trials of at least 8." in page.text
    assert page.groups("parallel") == page.groups("curve") == {0}


def test_a_search_of_500_trials_has_a_page_that_a_browser_can_show(tmp_path):
    folder = search(tmp_path / "search", 500, ranges={"batch": [8, 16, 32]}, epochs=1)
    page = page_of(folder)
    assert page.groups("parallel") == set(range(500))
    assert (folder / "report.html").stat().st_size < 2e6
    assert "and 480 more" in shown(folder)


def test_whether_a_search_goes_on_is_read_from_its_lock(tmp_path):
    folder = search(tmp_path / "search", 3, trials=12, running=1)
    with Journal(folder):
        assert standing.read(folder).state == "running"
        assert "zoo tune --show" in page_of(folder).text
        assert "zoo tune --resume" in page_of(folder, alive=False).text  # what the search itself says at its end
    assert standing.read(folder).state == "stopped"
    (folder / "best").mkdir()
    (folder / "best" / "bundle.json").write_text("{}")
    assert standing.read(folder).state == "stopped"  # a trial waits to go on
    text = shown(folder)
    assert "zoo tune --resume" in text and "zoo export" in text


def test_a_search_that_was_killed_is_shown_without_what_was_cut(usual, tmp_path):
    folder = shutil.copytree(usual, tmp_path / "search")
    with (folder / NAME).open("ab") as stream:
        stream.write(b'00000000 {"event": "created", "tri')
    (folder / "trials" / "0003" / "history.json").write_text('{"epochs": [')
    shutil.rmtree(folder / "trials" / "0004")
    page = page_of(folder)
    assert len(page.rows()) == 22
    assert page.groups("curve") == set(range(22)) - {3, 4}


def test_no_search_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no search"):
        report.write(tmp_path)
    (tmp_path / "search.json").write_text(plan_of().to_json())  # a search that has not begun its journal
    assert "0 of 12 trials" in shown(tmp_path)


def test_the_table_holds_every_digit_and_no_value_that_was_not_used(usual):
    lines, trials = lines_of(report.table(usual)), standing.read(usual).trials
    assert [line["trial"] for line in lines] == [trial.id for trial in trials]
    for line, trial in zip(lines, trials, strict=True):
        assert line["status"] == trial.status
        assert line["run.loss"] == trial.values["loss"]  # a score is called loss as well
        assert line["recipe.rank"] == str(trial.values.get("recipe.rank", ""))
        assert float(line["recipe.learning_rate"]) == trial.values["recipe.learning_rate"]
        if trial.status == "completed":
            assert float(line["val_loss"]) == trial.result.scores["val_loss"]
        assert line["reason"] == (REASON if trial.status == "failed" else "")
    assert any(line["recipe.rank"] == "" for line in lines)


def test_several_objectives_have_a_front(tmp_path):
    objectives = ("val_accuracy", "latency", "size")
    folder = search(tmp_path / "search", 30, objectives=objectives, ranges={"batch": [8, 16, 64], "recipe": "lora",
                    "recipe.learning_rate": {"float": [1e-5, 1e-1], "sampling": "log"}})  # fmt: skip
    page, found = page_of(folder), standing.read(folder)
    assert page.groups("front") == set(range(30))
    assert sorted(trial.values["batch"] for trial in found.front) == [8, 16, 64]  # the most accurate of each
    assert page.text.count("◆") == len(found.front) + 1  # and where it is said what it means
    assert "Trade-off" in page.text


def test_trials_of_hyperband_tell_what_they_went_on_from(tmp_path):
    def more(number: int) -> dict:
        return {"tuner/epochs": 3 if number < 9 else 9, "tuner/trial_id": None if number < 9 else f"{number - 9:04d}"}

    folder = search(tmp_path / "search", 12, more=more)
    assert "went on from 0002" in page_of(folder).text
    line = lines_of(folder / "trials.csv")[11]
    assert (line["tuner/trial_id"], line["tuner/epochs"]) == ("0002", "9")


def test_showing_a_search_needs_no_tensorflow(usual):
    seen = "print({'tensorflow', 'keras'} & set(sys.modules))"
    code = f"import sys; from tuning import report; report.show(sys.argv[1]); {seen}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(usual)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
