"""Results as pictures, PNG and SVG: how far ahead of rclone each case is, and how cost grows."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.report import LIMIT, number, peer_of
from bench.results import OURS, Results

_COLOURS = {OURS: "#1a73e8", "rclone": "#d93025", "rclone best flags": "#f29900", "disk": "#5f6368"}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write `ahead` and, where something was measured at several sizes, `growth`; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"ahead": _ahead(results), "growth": _growth(results)}
    written = []
    for name, figure in figures.items():
        if figure is None:
            continue
        for suffix in ("png", "svg"):
            file = folder / f"{name}.{suffix}"
            # Without a date, so that the same figures give the same file.
            figure.savefig(file, dpi=110, metadata={"Date": None} if suffix == "svg" else None)
            written.append(file)
        pyplot.close(figure)
    return written


def _ahead(results: Results) -> Figure | None:
    bars, peers = [], set()
    for case in results.cases():
        peer = peer_of(results, case)
        ratio = results.ratio(case, peer, results.main(case)) if peer is not None else None
        if ratio is not None and peer is not None:
            bars.append((f"{case} ({results.main(case)})", ratio))
            peers.add(peer)
    if not bars:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 0.28 * len(bars) + 1.2), layout="constrained")
    names, ratios = zip(*reversed(bars), strict=True)
    colours = [_COLOURS[OURS] if ratio >= 1 else _COLOURS["rclone"] for ratio in ratios]
    axes.barh(names, [math.log2(ratio) for ratio in ratios], color=colours)
    for place, ratio in enumerate(ratios):
        axes.annotate(
            f" {ratio:.1f}\N{MULTIPLICATION SIGN}" if ratio >= 1 else f"1/{1 / ratio:.2f}\N{MULTIPLICATION SIGN} ",
            (math.log2(ratio), place),
            va="center",
            ha="left" if ratio >= 1 else "right",
            fontsize=8,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    least, most = math.floor(math.log2(min(*ratios, 1))), math.ceil(math.log2(max(*ratios, 2))) + 1
    ticks = range(least, most + 1)
    axes.set_xticks(
        ticks,
        [
            f"{2**tick}\N{MULTIPLICATION SIGN}" if tick >= 0 else f"1/{2**-tick}\N{MULTIPLICATION SIGN}"
            for tick in ticks
        ],
    )
    axes.set_xlim(least - 1, most)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(y=0.01)
    against = " or ".join(sorted(peers))
    figure.suptitle(f"How many times less than {against} drivefs takes (median over median)", fontsize=10)
    return figure


def _growth(results: Results) -> Figure | None:
    series = results.series()
    if not series:
        return None
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(4.2 * columns, 3.2 * rows), layout="constrained", squeeze=False
    )
    for axes in grid.flat[len(series) :]:
        axes.set_axis_off()
    for axes, each in zip(grid.flat, series, strict=False):
        _draw_series(axes, results, each)
    handles = {
        label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _draw_series(axes: Axes, results: Results, series: str) -> None:
    runs = [run for run in results.runs if run.series == series]
    main = runs[0].main
    cases = {run.x: run.case for run in runs if run.x is not None}
    for system in dict.fromkeys(run.system for run in runs):
        points = [(x, found) for x, case in sorted(cases.items()) if (found := results.summary(case, system, main))]
        xs, medians = [x for x, _ in points], [found.median for _, found in points]
        (line,) = axes.plot(xs, medians, marker="o", label=system, color=_COLOURS.get(system))
        axes.fill_between(
            xs, [found.least for _, found in points], [found.most for _, found in points], alpha=0.2,
            color=line.get_color(),
        )  # fmt: skip
    limits = [
        (x, results.limits[case].figures[main])
        for x, case in sorted(cases.items())
        if case in results.limits and main in results.limits[case].figures
    ]
    if limits:
        axes.plot(*zip(*limits, strict=True), linestyle="--", color="black", linewidth=0.8, label=LIMIT)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sorted(cases), [number(x) for x in sorted(cases)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(runs[0].x_name or "", fontsize=8)
    axes.set_ylabel(main, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_title(series, fontsize=9)
