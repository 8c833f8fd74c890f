"""Pictures of a search as SVG that stands in a page: their colors are the page's, so that they are dark where it is."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.fonts import fonts, short
from tuning.axes import Axis, short_names
from tuning.plan import Objective
from tuning.standing import Standing
from tuning.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = 8  # of the ramp from the worst trial to the best
_INK, _MUTED, _LINE, _BEST, _BAD, _CARD = (f"#0{number}0{number}0{number}" for number in range(1, 7))
_NAMES = dict(
    zip((_INK, _MUTED, _LINE, _BEST, _BAD, _CARD), ("ink", "muted", "line", "best", "bad", "card"), strict=True)
)
_POINTS = 120  # of a curve
_BELOW = -0.13  # the place of what was not used, or did not end well
_CROWDS = ((60, (1.3, 0.85)), (200, (0.8, 0.6)), (math.inf, (0.6, 0.35)))  # width and opacity by the number of lines
_WIDE = 30  # between the smallest number and the largest: from here on an axis is logarithmic


@dataclass(frozen=True)
class Drawing:
    """Where the lines of a picture go, until it is SVG."""

    axes: Sequence[Axes]
    svg: list[str]

    def __str__(self) -> str:
        return self.svg[0]


def ramp(share: float) -> str:
    """The color of a trial: share 0 is the best, 1 the worst."""
    return f"#0700{round((1 - share) * (LEVELS - 1)):02d}"


@contextmanager
def _drawing(width: float, height: float, *, panels: int = 1) -> Iterator[Drawing]:
    """Panels side by side of so many inches in all; at the end they are SVG.

    Names that users gave are shown as they are: a dollar sign begins no formula.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "text.parse_math": False, "font.family": fonts(), "svg.fonttype": "none", "font.size": 9, "text.color": _INK,
        "axes.edgecolor": _LINE, "axes.labelcolor": _MUTED, "xtick.color": _MUTED, "ytick.color": _MUTED,
        "axes.spines.top": False, "axes.spines.right": False, "grid.color": _LINE, "axes.axisbelow": True,
        "path.simplify": True, "svg.hashsalt": f"{width} {height} {panels}",
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure, grid = pyplot.subplots(1, panels, figsize=(width, height), layout="constrained", squeeze=False)
        drawing = Drawing(list(grid.flat), [])
        yield drawing
        text = io.StringIO()
        none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=none)
        pyplot.close(figure)
        drawing.svg.append(_themed(text.getvalue(), width=width))


def _themed(svg: str, *, width: float) -> str:
    """The `<svg>` alone, with the names of the page's colors; so wide at least that its text can be read."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"| (width|height)="[\d.]+pt"(?=[^<]*viewBox)', "", svg, count=6)
    svg = svg.replace("<svg", f'<svg style="min-width: {width * 75:.0f}px"', 1)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    for color, name in _NAMES.items():
        svg = svg.replace(color, f"var(--{name})")
    return re.sub(r"#0700(\d\d)", lambda found: f"var(--ramp{int(found[1])})", svg)


def shares(standing: Standing) -> dict[str, float]:
    """For each trial with a score its rank: 0 the best, 1 the worst."""
    last = max(1, len(standing.ranked) - 1)
    return {trial.id: place / last for place, trial in enumerate(standing.ranked)}


def parallel(standing: Standing, names: Mapping[str, int]) -> str:
    """Each trial as a line over what was tried, on to its score: the best in front, the failed ones dashed.

    `names` numbers the trials: their lines are groups with the id "parallel-<number>".
    """
    objective = standing.plan.objectives[0]
    scored = [trial.result.scores[objective.name] for trial in standing.ranked if trial.result]
    last = (
        Axis(objective.name, None, min(scored), max(scored), _is_wide(scored)) if scored else Axis(objective.name, ())
    )
    columns = [*standing.varied, last]
    of = shares(standing)
    with _drawing(max(9.0, 1.35 * len(columns)), 4.3) as drawing:
        (axes,) = drawing.axes
        generator = np.random.default_rng(0)
        for trial in [*standing.failed, *reversed(standing.ranked)]:
            heights = [
                axis.place(trial.values[axis.name]) if axis.name in trial.values else _BELOW for axis in columns[:-1]
            ]
            score = standing.score(trial, objective) if trial.id in of else None
            heights.append(_BELOW if score is None else last.place(score))
            heights = [each + generator.uniform(-0.012, 0.012) for each in heights]  # so that equal ones are seen
            look = _look(standing, trial, of, many=len(standing.trials))
            axes.plot(heights, gid=f"parallel-{names[trial.id]}", **look)
        _columns(axes, columns, arrow="↑" if objective.direction == "max" else "↓")
    return str(drawing)


def _look(standing: Standing, trial: Trial, of: Mapping[str, float], *, many: int) -> dict[str, Any]:
    """How the line of a trial is drawn, beside so many others."""
    if trial is standing.best:
        return {"color": _BEST, "linewidth": 2.6, "zorder": 5}
    if trial.result is None:
        return {"color": _INK, "linewidth": 1.2, "linestyle": ":"}
    if trial.id not in of:
        return {"color": _BAD, "linewidth": 0.8, "alpha": 0.6, "linestyle": (0, (3, 2))}
    linewidth, alpha = next(look for most, look in _CROWDS if many < most)
    return {"color": ramp(of[trial.id]), "linewidth": linewidth, "alpha": alpha}


def _columns(axes: Axes, columns: Sequence[Axis], *, arrow: str) -> None:
    labels = short_names([axis.name for axis in columns])
    for place, axis in enumerate(columns):
        score = place == len(columns) - 1
        axes.plot([place, place], [_BELOW if axis.conditional or score else 0, 1], color=_MUTED, linewidth=1, zorder=4)
        for height, shown in axis.ticks():
            axes.plot(place, height, "_", color=_MUTED, markersize=5, zorder=4)
            axes.text(place + 0.05, height, short(shown), color=_INK, fontsize=8, va="center", zorder=6)
        if axis.conditional or score:
            shown = "no score" if score else "not used"
            axes.text(place + 0.05, _BELOW, shown, color=_MUTED, fontsize=8, va="center", zorder=6, style="italic")
        weight = "bold" if score else "normal"
        title = "\n".join(map(short, labels[axis.name].rsplit(".", 1))) + f" {arrow}" * score
        axes.text(place, 1.07, title, color=_INK, ha="center", weight=weight)
    axes.set(xlim=(-0.15, len(columns) - 1 + 0.75), ylim=(_BELOW - 0.06, 1.13))
    axes.set_axis_off()


def curves(standing: Standing, names: Mapping[str, int], metric: str) -> str:
    """A metric over the epochs of each trial that has it; ids are "curve-<number>". Empty where none has it."""
    found = []
    for trial in [*standing.failed, *reversed(standing.ranked), *standing.open]:
        history = standing.histories.get(trial.id)
        values = np.array([epoch.metrics.get(metric, np.nan) for epoch in history.epochs] if history else [])
        if np.isfinite(values).any():
            found.append((trial, values))
    if not found:
        return ""
    from matplotlib.ticker import MaxNLocator

    of = shares(standing)
    with _drawing(10.0, 3.8) as drawing:
        (axes,) = drawing.axes
        for trial, values in found:
            points = np.unique(np.linspace(0, len(values) - 1, min(len(values), _POINTS)).round().astype(int))
            look = _look(standing, trial, of, many=len(found))
            look |= {"marker": "o", "markersize": 4} if len(values) == 1 else {}
            axes.plot(points + 1, values[points], gid=f"curve-{names[trial.id]}", **look)
        _limit(axes, np.concatenate([values for _, values in found]))
        axes.set(xlabel="epoch, over all phases", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.5, linewidth=0.6)
    return str(drawing)


def _limit(axes: Axes, values: np.ndarray) -> None:
    """What a few epochs that went astray do not hide: the axis is of the values that most are near to."""
    values = values[np.isfinite(values)]
    low, median, high = np.quantile(values, [0, 0.5, 1])
    usual = np.quantile(values, 0.95)
    if high > 4 * max(usual, 1e-12) and low >= 0:
        high = usual * 1.5
    if low > 0 and high > _WIDE * low and median < high / 4:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")  # the usual one writes formulas
        axes.set_ylim(low / 1.3, high * 1.3)
    elif high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def fronts(standing: Standing, names: Mapping[str, int]) -> str:
    """Two objectives each against one another: the trials of the front are joined; ids are "front-<number>-<panel>"."""
    pairs = list(itertools.combinations(standing.plan.objectives, 2))[:3]
    if not pairs or not standing.ranked:
        return ""
    with _drawing(4.2 * len(pairs) if len(pairs) > 1 else 9.0, 3.9, panels=len(pairs)) as drawing:
        for panel, (axes, pair) in enumerate(zip(drawing.axes, pairs, strict=True)):
            _front(axes, standing, pair, {name: f"front-{number}-{panel}" for name, number in names.items()})
    return str(drawing)


def _front(axes: Axes, standing: Standing, pair: tuple[Objective, Objective], ids: Mapping[str, str]) -> None:
    of, best = shares(standing), standing.front
    places = {
        each.id: [each.result.scores[one.name] * unit(one)[0] for one in pair]
        for each in standing.ranked
        if each.result
    }
    for each in standing.ranked:
        if each not in best:
            axes.plot(*places[each.id], "o", color=ramp(of[each.id]), markersize=6, alpha=0.9, gid=ids[each.id])
    if len(standing.plan.objectives) == 2:
        along = sorted(places[each.id] for each in best)
        axes.plot(*zip(*along, strict=True), color=_BEST, linewidth=1.4, alpha=0.6, zorder=3)
    for each in best:
        axes.plot(*places[each.id], "D", color=_BEST, markersize=7, zorder=5, gid=ids[each.id])
    for which, one in zip("xy", pair, strict=True):
        values = [place["xy".index(which)] for place in places.values()]
        arrow = {"x": {"min": "← ", "max": " →"}, "y": {"min": "← ", "max": " →"}}[which][one.direction]
        label = f"{one.name}{unit(one)[1]}"
        axes.set(**{f"{which}label": f"{arrow}{label}" if one.direction == "min" else f"{label}{arrow}"})
        if _is_wide(values):
            axes.set(**{f"{which}scale": "log"})
            getattr(axes, f"{which}axis").set_major_formatter("{x:g}")
    axes.grid(alpha=0.5, linewidth=0.6)
    _name(axes, {each.id: places[each.id] for each in best})


def _name(axes: Axes, places: Mapping[str, Sequence[float]]) -> None:
    """Names beside points, as far as there is room between them."""
    axes.autoscale_view()  # which matplotlib puts off until it draws
    named: list[np.ndarray] = []
    for name, place in places.items():
        at = axes.transAxes.inverted().transform(axes.transData.transform(place))
        if all(abs(at - other)[0] > 0.16 or abs(at - other)[1] > 0.06 for other in named):
            named.append(at)
            x, y = place
            look: Any = {"color": _INK, "fontsize": 8, "zorder": 6}
            axes.annotate(name, (x, y), xytext=(6, 6), textcoords="offset points", **look)


def unit(objective: Objective) -> tuple[float, str]:
    """What a score is multiplied with to be shown, and what stands behind it."""
    return {"size": (1e-6, " (MB)"), "latency": (1.0, " (ms)")}.get(objective.name, (1.0, ""))


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) > _WIDE * min(values)
