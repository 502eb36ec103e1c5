"""Plots as inline SVG. Colours are the page's, by class, so that they follow light and dark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from convert.histograms import BINS, Histogram

_WIDTH, _HEIGHT = 280, 96
_BARS = 64
"""Bins of a head's values that are drawn at most."""
MOST_POINTS = 1500
_PLANE = 290
_LEFT, _TOP, _RIGHT, _BOTTOM = 40, 10, 10, 36


@dataclass(frozen=True)
class Plot:
    """A drawing, and what its left and right ends stand for."""

    svg: Markup
    low: str
    high: str


def histogram(
    pair: tuple[Histogram, Histogram], bounds: tuple[float, float] | None, title: str
) -> Plot:
    """Counts, on a logarithmic scale, of the float values (filled) and the built ones (outlined);
    what lies outside bounds, the quantization range, is shaded."""
    edges, counts = _common(pair, bounds)
    low, high = edges[0], edges[-1]
    heights = np.log1p(counts)
    heights = heights / max(1e-9, heights.max()) * (_HEIGHT - 6)
    xs = (edges - low) / (high - low) * _WIDTH
    parts = [Markup('<path class="float" d="{}"/>').format(_steps(xs, heights[0]))]
    parts.append(Markup('<path class="built" d="{}"/>').format(_steps(xs, heights[1])))
    if bounds:
        parts += _range((np.array(bounds) - low) / (high - low) * _WIDTH)
    parts += [
        Markup('<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>').format(
            _WIDTH, _HEIGHT, _HEIGHT
        ),
    ]
    return Plot(drawing(_WIDTH, _HEIGHT + 5, title, parts), f"{low:.3g}", f"{high:.3g}")


def _common(
    pair: tuple[Histogram, Histogram], bounds: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Edges (n + 1,) and counts (2, n) of both in the same bins, over what holds any of them and
    the range."""
    bound = max(p.bound for p in pair)
    for each in pair:
        each.widen(bound)
    counts = np.array([p.counts for p in pair])
    places = [*np.flatnonzero(counts.any(axis=0)).tolist()]
    for value in bounds or ():
        places.append(int(np.clip((value + bound) * BINS / 2 / bound, 0, BINS - 1)))
    first, last = (min(places), max(places) + 1) if places else (0, BINS)
    width = -(-(last - first) // _BARS)
    first -= first % width
    n = -(-(last - first) // width)
    padded = np.zeros((2, n * width), np.int64)
    kept = counts[:, first : first + n * width]
    padded[:, : kept.shape[1]] = kept
    step = 2 * bound / BINS
    edges = -bound + step * (first + width * np.arange(n + 1))
    return edges, padded.reshape(2, n, width).sum(axis=2)


def _steps(xs: np.ndarray, heights: np.ndarray) -> str:
    """A closed staircase from the ground."""
    points = [f"M{xs[0]:.1f} {_HEIGHT}"]
    for x, height in zip(xs[1:], heights, strict=True):
        points.append(f"V{_HEIGHT - height:.1f}H{x:.1f}")
    return "".join([*points, f"V{_HEIGHT}"])


def _range(xs: np.ndarray) -> Iterable[Markup]:
    left, right = (float(x) for x in xs.clip(0, _WIDTH))
    for x, width in ((0, left), (right, _WIDTH - right)):
        if width > 0.5:
            rect = Markup('<rect class="beyond" x="{:.1f}" y="0" width="{:.1f}" height="{}"/>')
            yield rect.format(x, width, _HEIGHT)
    for x in (left, right):
        yield Markup('<line class="bound" x1="{:.1f}" x2="{:.1f}" y1="0" y2="{}"/>').format(
            x, x, _HEIGHT + 4
        )


def scatter(
    reference: np.ndarray,
    built: np.ndarray,
    alone: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
) -> Markup:
    """Scores, float (n,) each: a point for what both models found, float to the right and built up;
    a tick on its own axis for what only one did (alone: float's, built's). Evenly thinned to
    MOST_POINTS."""
    middle = _TOP + _PLANE / 2
    even = Markup('<line class="even" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    turned = Markup('<text x="11" y="{:.0f}" text-anchor="middle" transform="{}">{}</text>')
    parts = [
        *_frame((_PLANE, _PLANE)),
        even.format(*_place(0, 0), *_place(1, 1)),
        *_ticks(alone[0], (0, -7)),
        *_ticks(alone[1], (7, 0)),
        *_points(thinned(np.column_stack((reference, built)))),
        _text(_LEFT + _PLANE / 2, _TOP + _PLANE + 32, f"score, {names[0]}", "middle"),
        turned.format(middle, f"rotate(-90 11 {middle:.0f})", f"score, {names[1]}"),
    ]
    title = f"Scores of {names[1]} against {names[0]}"
    return drawing(_LEFT + _PLANE + _RIGHT, _TOP + _PLANE + _BOTTOM, title, parts)


def _place(x: float, y: float) -> tuple[float, float]:
    """Where a point of the scatter's unit square is drawn."""
    return _LEFT + x * _PLANE, _TOP + (1 - y) * _PLANE


def _points(rows: np.ndarray) -> Iterable[Markup]:
    point = Markup('<circle class="point" cx="{:.1f}" cy="{:.1f}" r="2"/>')
    return (point.format(*_place(x, y)) for x, y in rows.tolist())


def _ticks(scores: np.ndarray, direction: tuple[float, float]) -> Iterable[Markup]:
    """On the horizontal axis where they point up, on the vertical one where they do not."""
    tick = Markup('<line class="alone" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    for score in thinned(scores).tolist():
        x, y = _place(0, score) if direction[0] else _place(score, 0)
        yield tick.format(x, y, x + direction[0], y + direction[1])


def thinned(rows: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """At most so many of the rows, evenly taken."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def curves(lines: Sequence[tuple[str, np.ndarray]], mark: float, title: str) -> Markup:
    """Lines over confidence from 0 to 1, values float (n,) from 0 to 1 each, by CSS class; mark is
    a confidence to point out."""
    width, height = 560, 250
    size = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    parts = list(_frame(size))
    for kind, values in lines:
        rows = thinned(np.column_stack((np.linspace(0, 1, len(values)), values)), 250)
        points = " ".join(
            f"{_LEFT + x * size[0]:.1f},{_TOP + (1 - y) * size[1]:.1f}" for x, y in rows.tolist()
        )
        parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(kind, points))
    x = _LEFT + mark * size[0]
    parts.append(
        Markup('<line class="bound" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
            x, x, _TOP, _TOP + size[1]
        )
    )
    parts.append(_text(_LEFT + size[0] / 2, height - 4, "confidence threshold", "middle"))
    return drawing(width, height, title, parts)


def _frame(size: tuple[float, float]) -> Iterable[Markup]:
    """Axes from 0 to 1, with lines at the quarters."""
    for value in (0, 0.25, 0.5, 0.75, 1):
        x, y = _LEFT + value * size[0], _TOP + (1 - value) * size[1]
        kind = "axis" if value == 0 else "grid"
        line = Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
        yield line.format(kind, x, x, _TOP, _TOP + size[1])
        yield line.format(kind, _LEFT, _LEFT + size[0], y, y)
        yield _text(x, _TOP + size[1] + 14, f"{value:g}", "middle")
        yield _text(_LEFT - 6, y + 4, f"{value:g}", "end")


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, text
    )


def drawing(width: float, height: float, title: str, parts: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {:g} {:g}" width="{:g}" height="{:g}" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(width, height, width, height, title, Markup("").join(parts))
