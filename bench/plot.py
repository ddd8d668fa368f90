"""Draws what was measured into docs/images: `python -m bench.plot`, after a run. Needs the extra `bench`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.record import RELAY, read

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "images"
_SIZE: Final = (7.2, 4.0)


def curves(
    found: Mapping[str, Any], steps: int, outcome: str, figure: str
) -> dict[str, list[tuple[int, float]]]:
    """By system, `(concurrency, figure)` of what was measured, in order."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for each in found["systems"]["measured"]:
        if (each["steps"], each["shape"]) == (steps, outcome) and each[figure] is not None:
            lines.setdefault(each["system"], []).append((each["concurrency"], each[figure]))
    return {name: sorted(points) for name, points in lines.items()}


def _draw(
    name: str, title: str, lines: Mapping[str, list[tuple[float, float]]], *, is_growth: bool = False
) -> None:
    """Against concurrency, both axes logarithmic; as growth, against the rows beside, from nothing."""
    from matplotlib import pyplot as plt  # noqa: PLC0415  # an extra that measuring does without

    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    for system, points in lines.items():
        style = "--" if system == RELAY else "-"
        axes.plot(
            [x for x, _ in points], [y for _, y in points], style, marker="o", markersize=3, label=system
        )
    axes.set_title(title)
    if is_growth:
        axes.set_xlabel("ended sagas beside")
        axes.set_xscale("symlog", linthresh=100_000)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    else:
        axes.set_xlabel("in flight")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(_short)
    ticks = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(axis="y", which="minor", labelsize=6)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    FOLDER.mkdir(parents=True, exist_ok=True)
    # No date, and the same identifiers each time: the same figures draw the same file.
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    print(f"written: {FOLDER / name}.svg")


def _short(value: float, _: float) -> str:
    """Only 2 and 5 among the minor ticks: the others would lie upon each other."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def draw(found: Mapping[str, Any]) -> None:
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
    for steps in (2, 3) if "systems" in found else ():
        for figure, what in (
            ("sagas_per_second", "sagas a second"),
            ("p50_ms", "p50, ms"),
            ("p99_ms", "p99, ms"),
        ):
            lines = curves(found, steps, "success", figure)
            name = f"performance-{steps}-steps-{figure.replace('_', '-')}"
            _draw(name, f"{steps}-step sagas: {what}", _floats(lines))
    if "growth" in found:
        lines_of = growth(found)
        rates = {"sagas a second": lines_of.pop("sagas a second", [])}
        _draw("performance-growth-rate", "sagas a second at 64 in flight", rates, is_growth=True)
        _draw("performance-growth-latency", "latency at 64 in flight, ms", lines_of, is_growth=True)


def _floats(lines: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(float(x), y) for x, y in points] for name, points in lines.items()}


def growth(found: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Against the ended sagas beside: sagas a second, p50 and p99 in ms, at 64 in flight."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for each in found["growth"]["measured"]["throughput"]:
        if not each["system"].endswith("ended") or each["concurrency"] != 64 or each["p50_ms"] is None:
            continue
        count = float(each["system"].split()[-2].replace(",", ""))
        for figure, name in (("sagas_per_second", "sagas a second"), ("p50_ms", "p50"), ("p99_ms", "p99")):
            lines.setdefault(name, []).append((count, each[figure]))
    return lines


def main() -> int:
    draw(read())
    return 0


if __name__ == "__main__":
    sys.exit(main())
