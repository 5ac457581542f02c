"""The interval plot as SVG, and as PNG by resvg (extra `png`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from evalrunner.formatting import interval, number, one_line
from evalrunner.redact import redact
from evalrunner.reports.html.data import overview_data
from evalrunner.reports.view import RunView
from evalrunner.stats.aggregates import find_aggregate
from evalrunner.storage import write_bytes

WIDTH, LEFT, RIGHT, LINE = 900, 250, 190, 24
COLOURS = ("#2457c5", "#b04a10", "#0b7166", "#8b2f86", "#6a6200", "#4a5568")
FONT = "font-family='system-ui, Segoe UI, Roboto, Noto Sans, DejaVu Sans, sans-serif'"
PNG_SCALE = 2  # pixels of a picture for each of its units, so that it is sharp in a document


class SvgReporter:
    """Writes `.svg`: the interval plot."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        write_bytes(self.path, forest_svg(run).encode("utf-8", errors="replace"))


class PngReporter:
    """Writes `.png`: the interval plot as a picture. Needs resvg-py."""

    requires = ("resvg_py", "png")

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        write_bytes(self.path, forest_png(run))


def forest_svg(run: RunView) -> str:
    """Every metric with an interval, a line for each target, as SVG."""
    overview = overview_data(run)
    body: list[str] = []
    y = 44.0
    for name in _names(overview):
        body.append(_text(20, y + 14, name, size=13, weight=600))
        y += 22
        lines = list(_of(overview, name))
        low, high = _domain(overview, lines)
        for place, target, metric in lines:
            body.extend(_line(overview, place, target, metric, y + LINE / 2, (low, high)))
            y += LINE
        body.append(_text(LEFT, y + 12, f"{low:g}", size=11, fill="#565a5f"))
        body.append(_text(WIDTH - RIGHT, y + 12, f"{high:g}", size=11, fill="#565a5f", anchor="end"))
        y += 28
    if not body:
        body.append(_text(20, y + 14, "no metric has an interval", size=13, fill="#565a5f"))
        y += 28
    title = f"{overview['suite']}: metrics with 95% CIs"
    return redact(
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {y + 8:g}' width='{WIDTH}' height='{y + 8:g}' "
        f"role='img' {FONT}>\n<title>{_safe(title, 200)}</title>\n<rect width='100%' height='100%' fill='#ffffff'/>\n"
        + _text(20, 26, title, size=15, weight=600)
        + "\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def forest_png(run: RunView) -> bytes:
    """The same as PNG. Needs the extra `png`."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=forest_svg(run), zoom=PNG_SCALE))


def _names(overview: Mapping[str, Any]) -> list[str]:
    scorers = {scorer["name"] for scorer in overview["scorers"]}
    metrics = (metric for target in overview["targets"] for metric in target["metrics"])
    return list(
        dict.fromkeys(m["name"] for m in metrics if m["scorer"] in scorers and m["low"] is not None and not m["slice"])
    )


def _of(overview: Mapping[str, Any], name: str) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """The places, names and metrics of the targets that have a value of the metric."""
    for place, target in enumerate(overview["targets"]):
        for metric in target["metrics"]:
            if metric["name"] == name and not metric["slice"] and metric["value"] is not None:
                yield place, target["name"], metric


def _domain(overview: Mapping[str, Any], lines: Sequence[tuple[int, str, Mapping[str, Any]]]) -> tuple[float, float]:
    """The range of a metric in the plot: that of its scorer, or that of its values."""
    ends = [m[key] for _, _, m in lines for key in ("low", "value", "high") if m[key] is not None]
    low, high = min(ends), max(ends)
    for scorer in overview["scorers"]:
        if scorer["name"] == lines[0][2]["scorer"] and find_aggregate(lines[0][2]["aggregate"]).in_score_units:
            declared = scorer["range"] or (None, None)
            low = low if declared[0] is None else min(low, declared[0])
            high = high if declared[1] is None else max(high, declared[1])
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _line(
    overview: Mapping[str, Any],
    place: int,
    target: str,
    metric: Mapping[str, Any],
    y: float,
    domain: tuple[float, float],
) -> Iterator[str]:
    def x(value: float) -> float:
        share = (value - domain[0]) / (domain[1] - domain[0])
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)

    colour = COLOURS[place % len(COLOURS)]
    low = domain[0] if metric["low"] is None else metric["low"]
    high = domain[1] if metric["high"] is None else metric["high"]
    yield _text(LEFT - 14, y + 4, target, size=12, fill="#565a5f", anchor="end", limit=34)
    yield f"<path d='M{LEFT} {y:g}H{WIDTH - RIGHT}' stroke='#dfdfda'/>"
    yield f"<path d='M{x(low):.1f} {y:g}H{x(high):.1f}' stroke='{colour}' stroke-opacity='.5' stroke-width='4' stroke-linecap='round'/>"
    for gate in overview["gates"]:
        if (
            gate["metric"] == metric["name"]
            and gate["target"] == target
            and gate.get("kind", "point") in ("point", "confidence")
        ):
            at = x(gate["bound"])
            yield f"<path d='M{at:.1f} {y - 9:g}V{y + 9:g}' stroke='#1d1f21' stroke-width='1.5' stroke-dasharray='3 2'/>"
    yield f"<circle cx='{x(metric['value']):.1f}' cy='{y:g}' r='5' fill='{colour}'/>"
    value = number(metric["value"], metric["unit"], beside=(metric["low"], metric["high"]))
    label = f"{value} ({interval(metric['low'], metric['high'], beside=(metric['value'],))})"
    yield _text(WIDTH - 20, y + 4, label, size=12, anchor="end")


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    fill: str = "#1d1f21",
    weight: int = 400,
    anchor: str = "start",
    limit: int = 90,
) -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' font-size='{size}' font-weight='{weight}' fill='{fill}' text-anchor='{anchor}'>"
        f"{_safe(text, limit)}</text>"
    )


def _safe(text: str, limit: int) -> str:
    """Untrusted text escaped for XML: one line, without characters that XML 1.0 forbids."""
    return escape(one_line(text, limit).replace("\ufffe", " ").replace("\uffff", " "))
