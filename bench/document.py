"""Writes what was measured into docs/performance.md: `python -m bench.document`, after a run.

Each table stands between `<!-- bench NAME -->` and `<!-- end -->`; what is between is replaced by what
bench/results/latest.json says, and no figure is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.record import RELAY, read

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
IMAGES: Final = PAGE.parent / "images"
NOT_YET: Final = "_Not measured yet: `make bench-full` fills this in._"
_BUSY_MAX: Final = 0.1
"""Of the processors' time before a section: more, and its figures are those of a busy machine."""
_MARKED: Final = re.compile(r"(<!-- bench ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

Found = Mapping[str, Any]
"""A whole latest.json: by section, `taken_at`, `settings` and `measured`."""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in rows:
        assert len(row) == len(header), f"{len(row)} cells under {len(header)} headings: {row}"
        lines.append(f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |")
    return "\n".join(lines)


def listed(records: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """A row for each record: under each heading one of its fields, or a text with names of fields in braces."""

    def cell(record: Mapping[str, Any], wanted: str) -> object:
        return wanted.format(**record) if "{" in wanted else record.get(wanted)

    return table(list(columns), ([cell(each, wanted) for wanted in columns.values()] for each in records))


def machine(found: Found) -> str:
    rows = []
    for name, section in found.items():
        given = section["settings"]
        packages = ", ".join(f"{package} {version}" for package, version in given["packages"].items())
        rows.append(
            (
                name,
                section["taken_at"],
                f"{given['processor']}, {given['cores']} cores, {given['memory_gib']} GiB",
                f"{given['postgres'].removeprefix('postgres (PostgreSQL) ')}, fsync {given['fsync']}",
                f"Python {given['python']}, {packages}",
                f"{given['rounds']} rounds of {given['seconds']:g} s",
                f"{given['busy']:.0%}",
                given.get("yardstick_us"),
            )
        )
    header = (
        "section",
        "taken at",
        "machine",
        "Postgres",
        "versions",
        "extent",
        "busy before",
        "yardstick, us",
    )
    busy = [name for name, section in found.items() if section["settings"]["busy"] > _BUSY_MAX]
    warning = (
        f"\n\n**Taken while the machine had other work, and to be taken again: {', '.join(busy)}.**"
        if busy
        else ""
    )
    return table(header, rows) + warning


def _records(found: Found, section: str = "systems") -> list[Mapping[str, Any]]:
    measured = found[section]["measured"]
    records: list[Mapping[str, Any]] = measured["throughput"] if section == "growth" else measured
    return records


def _pivot(records: Iterable[Mapping[str, Any]], cell: Callable[[Mapping[str, Any]], str], title: str) -> str:
    """Systems down, concurrencies across."""
    rows: dict[str, dict[int, str]] = {}
    for each in records:
        rows.setdefault(each["system"], {})[each["concurrency"]] = cell(each)
    concurrencies = sorted({concurrency for cells in rows.values() for concurrency in cells})
    header = (title, *(f"{concurrency} in flight" for concurrency in concurrencies))
    return table(
        header,
        ((name, *(cells.get(concurrency) for concurrency in concurrencies)) for name, cells in rows.items()),
    )


def throughput_cell(each: Mapping[str, Any]) -> str:
    if each["sagas_per_second"] is None:
        return f"not measured: {each['reason']}"
    spread = f"{each['sagas_per_second_low']:.0f}-{each['sagas_per_second_high']:.0f}"
    ratio = "" if each["ratio_to_relay"] is None else f", {each['ratio_to_relay']:.2f} of the relay"
    return f"**{each['sagas_per_second']:.0f}**/s ({spread}){ratio}"


def latency_cell(each: Mapping[str, Any]) -> str:
    return "" if each["p50_ms"] is None else f"{each['p50_ms']:.1f} / {each['p99_ms']:.1f}"


def plots(found: Found) -> str:
    """Links to what `bench.plot` has drawn."""
    names = sorted(path.name for path in IMAGES.glob("performance-*.svg"))
    titles = (name.removeprefix("performance-").removesuffix(".svg").replace("-", " ") for name in names)
    return "\n".join(f"![{title}]({IMAGES.name}/{name})" for title, name in zip(titles, names, strict=True))


def systems(found: Found, section: str = "systems") -> str:
    records = _records(found, section)
    parts = []
    for steps, outcome in sorted({(each["steps"], each["shape"]) for each in records}):
        chosen = [each for each in records if (each["steps"], each["shape"]) == (steps, outcome)]
        ending = "the last one refused" if outcome == "rollback" else "success"
        parts.append(f"**{steps} steps, {ending}**\n")
        parts.append(_pivot(chosen, throughput_cell, "sagas a second: median (lowest-highest)") + "\n")
        parts.append(_pivot(chosen, latency_cell, "p50 / p99, ms") + "\n")
    return "\n".join(parts).rstrip()


def processes(found: Found) -> str:
    return systems(found, "processes")


def _one(found: Found, system: str, outcome: str, concurrency: int, steps: int = 2) -> Mapping[str, Any]:
    """The record; one without figures where there is none."""
    for each in _records(found):
        if (each["system"], each["shape"], each["concurrency"], each["steps"]) == (
            system,
            outcome,
            concurrency,
            steps,
        ):
            return each
    return {"sagas_per_second": None, "p50_ms": None, "ratio_to_relay": None}


def targets(found: Found) -> str:
    """The budgets, and whether they are met: `(what, wanted, measured, is met)`."""
    unary, worker = (_one(found, f"ours, {way}", "success", 64) for way in ("unary", "worker"))
    rollback, alone = (_one(found, "ours, unary", *shape) for shape in (("rollback", 32), ("success", 1)))
    rows: list[tuple[str, float | None, float, bool]] = [
        ("unary, 64 in flight, sagas/s", unary["sagas_per_second"], 1500, True),
        ("worker stream, 64 in flight, sagas/s", worker["sagas_per_second"], 3000, True),
        ("rollback, 32 in flight, sagas/s", rollback["sagas_per_second"], 900, True),
        ("p50, 1 in flight, ms", alone["p50_ms"], 4.0, False),
        ("unary, 64 in flight, share of the bare relay", unary["ratio_to_relay"], 0.6, True),
        ("commits of an unloaded 2-step saga", _commits(found), 3.1, False),
        ("killed to resumed, s", _resumed(found), 5.0, False),
        ("throughput lost beside the most ended sagas, share", _lost(found), 0.1, False),
        ("memory beside the sleepers, more than without, MiB", _sleepers(found), 50.0, False),
    ]
    return table(
        ("budget", "wanted", "measured", "met"),
        (
            (
                what,
                f"{'at least' if is_floor else 'at most'} {wanted:g}",
                "not measured" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}",
                ""
                if value is None
                else "yes"
                if (value >= wanted) == is_floor or value == wanted
                else "**no**",
            )
            for what, value, wanted, is_floor in rows
        ),
    )


def _commits(found: Found) -> float | None:
    value: float | None = _one(found, "ours, unary", "success", 1).get("commits_per_saga")
    return value


def _resumed(found: Found) -> float | None:
    runs = found.get("faults", {}).get("measured", {}).get("killed", [])
    known = [run["last_resumed_seconds"] for run in runs if run["last_resumed_seconds"] is not None]
    return max(known, default=None)


def _grown(found: Found) -> dict[tuple[int, str], Mapping[str, Any]]:
    """At 64 in flight, by how many sagas of which kind are beside."""
    known: dict[tuple[int, str], Mapping[str, Any]] = {}
    for each in _records(found, "growth") if "growth" in found else ():
        if each["concurrency"] == 64 and each["sagas_per_second"] and each["system"] != RELAY:
            *_, count, kind = each["system"].split()
            known[int(count.replace(",", "")), kind] = each
    return known


def _lost(found: Found) -> float | None:
    grown = {count: each for (count, kind), each in _grown(found).items() if kind == "ended"}
    if len(grown) < 2:
        return None
    least, most = grown[min(grown)], grown[max(grown)]
    return max(0.0, 1 - float(most["ratio_to_relay"]) / float(least["ratio_to_relay"]))


def _sleepers(found: Found) -> float | None:
    grown = _grown(found)
    asleep = [each for (_, kind), each in grown.items() if kind == "sleeping"]
    without = grown.get((0, "ended"))
    if not asleep or without is None:
        return None
    return max(0.0, float(asleep[0]["memory_mib"]) - float(without["memory_mib"]))


def parts(found: Found) -> str:
    """Processor time by part, and what the load could drive if it had a core to itself."""
    rows = []
    for each in _records(found):
        if each["concurrency"] not in {1, 64} or each["shape"] != "success" or not each["cpu_us"]:
            continue
        cpu = each["cpu_us"]
        load = cpu.get("load", 0)
        rows.append(
            (
                each["system"],
                f"{each['steps']}-step at {each['concurrency']}",
                *(
                    _us(cpu.get(part))
                    for part in ("coordinator", "service", "postgres", "participant", "load")
                ),
                f"{1e6 / load:.0f}/s" if load else "in its process",
                each["memory_mib"],
                each["commits_per_saga"],
                each["wal_bytes_per_saga"],
            )
        )
    header = ("system", "shape", "coordinator", "its service", "Postgres", "participant", "load")
    more = ("load's ceiling", "MiB", "commits", "bytes of WAL")
    return table((*header, *more), rows)


def _us(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def floors(found: Found) -> str:
    columns = {
        "floor": "floor",
        "in flight": "concurrency",
        "a second: median (lowest-highest)": "**{per_second:.0f}** ({low:.0f}-{high:.0f})",
        "us of this process": "cpu_us",
    }
    return listed(found["floors"]["measured"], columns)


def costs(found: Found) -> str:
    measured = found["costs"]["measured"]
    lacking = (
        ""
        if measured["statements"]
        else "Round trips not measured: this Postgres has no pg_stat_statements.\n\n"
    )
    columns = {
        "system": "system",
        "shape": "{steps}-step {shape} at {concurrency}",
        "round trips": "round_trips_per_saga",
        "commits": "commits_per_saga",
        "bytes of WAL": "wal_bytes_per_saga",
    }
    trips = listed(measured["statements"], columns)
    statements = table(
        ("statement, unary at 64", "calls a saga", "us in Postgres a saga"),
        (
            (f"`{row['statement'].strip()[:80]}`", row["calls_per_saga"], row["us_per_saga"])
            for each in measured["statements"]
            if (each["system"], each["shape"], each["concurrency"]) == ("ours, unary", "success", 64)
            for row in each["statements"]
        ),
    )
    profile = table(
        ("way", "us a saga", "where"),
        (
            (
                each["system"],
                each.get("cpu_us"),
                each.get("reason")
                or ", ".join(f"{name} {share:.0%}" for name, share in each["shares"].items()),
            )
            for each in measured["profile"]
        ),
    )
    return f"{lacking}{trips}\n\n{statements}\n\n{profile}"


def growth(found: Found) -> str:
    measured = found["growth"]["measured"]
    beside = _pivot(
        measured["throughput"], lambda each: f"{throughput_cell(each)}; {latency_cell(each)} ms", ""
    )
    disk = table(("rows", "bytes on disk a saga, indexes included"), measured["disk_bytes_per_saga"].items())
    columns = {
        "unfinished sagas": "unfinished",
        "serving after, s": "serving_seconds",
        "adopted within, s": "adopting_seconds",
        "all done after, s": "done_seconds",
        "MiB": "memory_mib",
    }
    return f"{beside}\n\n{disk}\n\n{listed(measured['recovery'], columns)}"


def scenario(found: Found) -> str:
    measured = found["scenario"]["measured"]
    shares = {f"{share} ms": f"{share}_ms" for share in ("p50", "p90", "p99", "p99.9")}
    latencies = listed(measured["latencies"], {"minutes": "kind", "orders": "orders", **shares})
    ends = ", ".join(f"{count} {status}" for status, count in measured["ends"].items())
    effects = ", ".join(f"{count} {step}" for step, count in measured["effects"].items())
    lost = "nothing was lost" if measured["is_nothing_lost"] else "**the books do not agree**"
    return (
        f"{measured['orders']} orders of {measured['minutes']} minutes, {measured['compression']} times as fast; ended: {ends}; "
        f"effects in the participants' books: {effects}; {lost}. Unfinished at once: "
        f"{measured['unfinished_median']} usually, {measured['unfinished_max']} at most.\n\n{latencies}"
    )


_KILLED: Final = {
    "killed": "run {run}",
    "before /s": "sagas_per_second_before",
    "until the lease is over /s": "sagas_per_second_within_lease",
    "lowest /s": "sagas_per_second_lowest",
    "back to 90 % after, s": "back_after_seconds",
    "sagas adopted": "adopted_sagas",
    "resumed after, s": "{first_resumed_seconds}-{last_resumed_seconds}",
    "left": "unfinished_at_the_end",
}
_HUNG: Final = {
    "hung": "run {run}, {hung_sagas} sagas",
    "p50 / p99 alone, ms": "{p50_ms_alone} / {p99_ms_alone}",
    "p50 / p99 beside, ms": "{p50_ms_beside} / {p99_ms_beside}",
    "p99 ratio": "p99_ratio",
    "rate ratio": "rate_ratio",
}


def faults(found: Found) -> str:
    measured = found["faults"]["measured"]
    killed, hung = (
        [{**each, "run": number} for number, each in enumerate(measured[name], 1)]
        for name in ("killed", "hung")
    )
    return f"{listed(killed, _KILLED)}\n\n{listed(hung, _HUNG)}"


def sizing(found: Found) -> str:
    """The model of the page: cores over the sum of all parts' processor time, beside what was measured."""
    cores = found["systems"]["settings"]["cores"]
    rows = []
    for each in _records(found):
        if each["concurrency"] != 64 or each["steps"] != 2 or not each["system"].startswith("ours"):
            continue
        cpu = each["cpu_us"]
        foreseen = cores * 1e6 / sum(cpu.values())
        rows.append(
            (
                each["system"],
                each["shape"],
                f"{1e6 / cpu['coordinator']:.0f}",
                f"{1e6 / cpu['postgres']:.0f}",
                f"{foreseen:.0f}",
                f"{each['sagas_per_second']:.0f}",
                f"{each['sagas_per_second'] / foreseen:.0%}",
            )
        )
    header = ("way, at 64 in flight", "shape", "sagas/s per coordinator core", "per Postgres core")
    return table((*header, "foreseen here", "measured", "of the foreseen"), rows)


WRITERS: Final[Mapping[str, tuple[str, Callable[[Found], str]]]] = {
    "machine": ("", machine),
    "targets": ("systems", targets),
    "systems": ("systems", systems),
    "plots": ("systems", plots),
    "processes": ("processes", processes),
    "parts": ("systems", parts),
    "sizing": ("systems", sizing),
    "floors": ("floors", floors),
    "costs": ("costs", costs),
    "growth": ("growth", growth),
    "scenario": ("scenario", scenario),
    "faults": ("faults", faults),
}
"""By the name in the marker: the section that it needs, and what writes it."""


def fill(page: str, found: Found) -> str:
    """The page with every marked part written anew. Raises KeyError for a marker that nothing here knows."""

    def written(match: re.Match[str]) -> str:
        section, writer = WRITERS[match[2]]
        is_known = section in found if section else bool(found)
        return f"{match[1]}\n{writer(found) if is_known else NOT_YET}\n\n{match[4]}"

    return _MARKED.sub(written, page)


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(fill(page, read()), encoding="utf-8")
    print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
