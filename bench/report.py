"""Results as tables in Markdown: one for each case, and one of all cases by the figure that counts."""

from __future__ import annotations

from collections.abc import Iterator

from bench.results import OURS, Results, Summary

LIMIT = "the limit"
CLOSE, DURABLE = "close_s", "durable_s"
PEER = "rclone best flags"
"""Whom the summary compares with, where it was measured; else rclone as it comes."""
BESIDE = {"requests": "requests", "memory_MB": "memory, MB"}
"""What the work cost us, and whom the summary compares with: figures and their names."""


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(summary: Summary | None) -> str:
    """A median, with its range where there are several runs."""
    if summary is None:
        return ""
    if summary.runs == 1:
        return number(summary.median)
    return f"{number(summary.median)} ({number(summary.least)} to {number(summary.most)})"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def summary_table(results: Results) -> Iterator[str]:
    """One line a case: its main figure on each system, beside its limit; and what it cost."""
    systems = list(dict.fromkeys(run.system for run in results.runs if run.series is None))
    head = ["work", "figure", LIMIT, *systems, "ahead of rclone", *BESIDE.values()]
    yield _row(head)
    yield "|" + "---|" * len(head)
    for case in results.cases():
        figure = results.main(case)
        # How long a program waits, besides, where the case is about how long Drive takes.
        for each in [CLOSE, figure] if figure == DURABLE and CLOSE in results.figures(case) else [figure]:
            cells = [_cell_or_failure(results, case, system, each) for system in systems]
            beside = [_beside(results, case, other) if each == figure else "" for other in BESIDE]
            yield _row([case, each, _bound(results, case, each), *cells, _ahead(results, case, each), *beside])


def _bound(results: Results, case: str, figure: str) -> str:
    """What cannot be beaten: computed, or what the disk beneath did in the same run."""
    limit = results.limits.get(case)
    if limit is not None and figure in limit.figures:
        return number(limit.figures[figure])
    disk = results.summary(case, "disk", figure)
    return f"the disk: {number(disk.median)}" if disk is not None else ""


def _cell_or_failure(results: Results, case: str, system: str, figure: str) -> str:
    within_s = results.not_within(case, system)
    if within_s is not None:
        return f"not within {number(within_s)} s"
    return "wrong" if results.failure(case, system) else cell(results.summary(case, system, figure))


def peer_of(results: Results, case: str) -> str | None:
    """The rclone that a case is compared with."""
    measured = results.systems(case)
    return next((name for name in (PEER, "rclone") if name in measured), None)


def _ahead(results: Results, case: str, figure: str) -> str:
    peer = peer_of(results, case)
    ratio = results.ratio(case, peer, figure) if peer is not None else None
    if ratio is None:
        return ""
    return f"{ratio:.1f} times" if ratio >= 1 else f"behind: {1 / ratio:.1f} times"


def _beside(results: Results, case: str, figure: str) -> str:
    """Ours; theirs."""
    ours, peer = results.summary(case, OURS, figure), peer_of(results, case)
    theirs = results.summary(case, peer, figure) if peer is not None else None
    return "; ".join(number(each.median) for each in (ours, theirs) if each is not None) if ours is not None else ""


def case_tables(results: Results) -> Iterator[str]:
    """A table for each case, with all that was measured, and each system over ours."""
    for case in results.cases():
        figures = results.figures(case)
        yield f"\n## {case}\n"
        yield _row(["system", *figures])
        yield "|" + "---|" * (len(figures) + 1)
        for system in results.systems(case):
            yield _row([system, *(cell(results.summary(case, system, figure)) for figure in figures)])
        limit = results.limits.get(case)
        if limit is not None:
            yield _row([LIMIT, *(number(limit.figures[each]) if each in limit.figures else "" for each in figures)])
            yield f"\n{LIMIT}: {limit.why}."
        for system in results.systems(case):
            failure = results.failure(case, system)
            if failure is not None:
                yield f"\n{system}: {failure}"
        for system in results.systems(case):
            ratios = [(figure, results.ratio(case, system, figure)) for figure in figures]
            told = [f"{figure} {ratio:.2f}" for figure, ratio in ratios if ratio is not None]
            if system != OURS and told:
                yield f"\n{system} over {OURS}: {', '.join(told)}"


def series_tables(results: Results) -> Iterator[str]:
    """How each series grows: a line for each size."""
    for series in results.series():
        runs = [run for run in results.runs if run.series == series]
        systems = list(dict.fromkeys(run.system for run in runs))
        yield f"\n## {series}\n"
        yield _row([runs[0].x_name or "", *(f"{system}, {runs[0].main}" for system in systems), LIMIT])
        yield "|" + "---|" * (len(systems) + 2)
        for x in sorted({run.x for run in runs if run.x is not None}):
            case = next(run.case for run in runs if run.x == x)
            limit = results.limits.get(case)
            bound = number(limit.figures[runs[0].main]) if limit and runs[0].main in limit.figures else ""
            yield _row([number(x), *(cell(results.summary(case, system, runs[0].main)) for system in systems), bound])


def whole(results: Results) -> str:
    """Everything, with what it was measured on."""
    head = [f"{results.machine}; {results.network}. Medians, and the range in brackets; times in seconds.", ""]
    return "\n".join([*head, *summary_table(results), *case_tables(results), *series_tables(results)])
