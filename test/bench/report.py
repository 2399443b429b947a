# SPDX-License-Identifier: Apache-2.0
"""build/bench/report.md, results.json, and a chart for each scenario; and what of it goes into a document."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess

import charts
from charts import number
from measure import NAMES
from peers import CORES, ROOT

PEERS = [name for name in NAMES.values() if not name.startswith("sse-relay")]


def spread(values):
    """Median, and from least to greatest."""
    if len(values) < 2:
        return number(values[0]) if values else ""
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def first_line(*command):
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return ((done.stdout or done.stderr).strip().splitlines() or [None])[0]


def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    nchan = None
    if shutil.which("dpkg-query"):
        nchan = first_line("dpkg-query", "-W", "-f=${Version}", "libnginx-mod-nchan")
    return {
        "processor": f"{model.group(1) if model else platform.machine()}, cores {CORES.all}",
        "pinned": f"server to core {CORES.server}, generator to {CORES.generator}, Redis to {CORES.redis}",
        "system": f"{first_line('sh', '-c', '. /etc/os-release; echo $PRETTY_NAME')}, kernel {platform.release()}",
        "sse-relay": first_line("git", "describe", "--always", "--dirty"),
        "Redis": (first_line("redis-server", "--version") or "").partition(" sha=")[0].rpartition("v=")[2],
        "nginx": (first_line("nginx", "-v") or "").rpartition("/")[2],
        "nchan": nchan,
    }


def header(bench):
    lines = [f"- {name}: {value}" for name, value in bench.machine.items() if value]
    for run in bench.commands:
        args = f" BENCH_ARGS='{run['args']}'" if run["args"] else ""
        busy = ": **the machine was not idle**" if run["load"] > 0.5 else ""
        lines.append(f"- `make bench{args}`: {run['minutes']:.1f} min, load when it began {run['load']:.1f}{busy}")
    return lines + [f"- not measured: {who}: {reason}" for who, reason in bench.skipped.items()]


# --- the verdicts ---


def verdict(values, limit, more):
    if not values:
        return "not measured"
    if limit is None:
        return "no target"
    middle = statistics.median(values)
    return "reached" if (middle >= limit if more else middle <= limit) else "**missed**"


def summary(bench, scenarios):
    """Every target beside what was measured."""
    lines = ["| scenario | must reach | measured: median (least–greatest) | |", "|---|---|---|---|"]
    for scenario in scenarios:
        title = scenario.title
        for what, values, limit, more in scenario.targets(bench) if was_run(bench, scenario) else ():
            values = values if isinstance(values, list) else [values]
            values = [v for v in values if v is not None]
            must = what if limit is None else f"{what} {'≥' if more else '≤'} {number(limit)}"
            lines.append(f"| {title} | {must} | {spread(values)} | {verdict(values, limit, more)} |")
            title = ""
    return lines


# --- a section for each scenario ---


def was_run(bench, scenario):
    return any(r["scenario"] == scenario.name for r in bench.results) or any(
        name == scenario.name for name, _ in bench.notes
    )


def rows_of(bench, scenario):
    """{who: {figure: values}} in the order of the first runs."""
    rows = {}
    for result in bench.results:
        if result["scenario"] == scenario.name:
            row = rows.setdefault(result["who"], {})
            for name, value in result["figures"].items():
                row.setdefault(name, []).append(value)
    return rows


def tables(rows):
    """One for each kind of figures; the first figure's name tells the kind."""
    kinds = {}
    for who, row in rows.items():
        kinds.setdefault(next(iter(row), None), {})[who] = row
    return "\n\n".join("\n".join(table(kind)) for kind in kinds.values()).split("\n")


def table(rows):
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    runs = {who: max(map(len, row.values()), default=0) for who, row in rows.items()}
    lines = [f"| | runs | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for who, row in rows.items():
        cells = " | ".join(spread(row.get(name, [])) for name in names)
        lines.append(f"| {who} | {runs[who]} | {cells} |")
    return lines


def chart(bench, scenario, rows):
    if hasattr(scenario, "curve"):
        return charts.curve(scenario.title, *scenario.curve(bench))
    figure = getattr(scenario, "chart", None) or next(iter(next(iter(rows.values()))))
    shown = {who: row[figure] for who, row in rows.items() if row.get(figure)}
    return charts.bars(scenario.title, figure, shown, PEERS)


def section(bench, scenario, directory):
    if not was_run(bench, scenario):
        return []
    parts = [[f"- {text}" for name, text in bench.notes if name == scenario.name]]
    rows = rows_of(bench, scenario)
    if rows:
        (directory / f"{scenario.name}.svg").write_text(chart(bench, scenario, rows))
        parts = [tables(rows), *parts, [f"![{scenario.title}]({scenario.name}.svg)"]]
    return ["", f"## {scenario.title}", *(line for part in parts if part for line in ["", *part])]


def write(bench, scenarios, directory):
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["# sse-relay: benchmark", "", *header(bench), "", *summary(bench, scenarios)]
    for scenario in scenarios:
        lines += section(bench, scenario, directory)
    (directory / "report.md").write_text("\n".join(lines) + "\n")
    whole = {name: getattr(bench, name) for name in ("machine", "commands", "skipped", "notes", "results")}
    temporary = directory / "results.json.new"
    temporary.write_text(json.dumps(whole, indent=1, ensure_ascii=False))
    os.replace(temporary, directory / "results.json")


def read(bench, directory):
    """What an earlier run has measured."""
    for name, value in json.loads((directory / "results.json").read_text()).items():
        setattr(bench, name, value)


# --- a document that shows it ---


def publish(bench, scenarios, directory, document):
    """Puts the verdicts between <!-- bench:begin --> and <!-- bench:end --> of @document, the table of a scenario between
    <!-- bench:NAME:begin --> and <!-- bench:NAME:end -->, and the charts into charts/ beside it."""
    measured = [s for s in scenarios if rows_of(bench, s)]
    pictures = document.parent / "charts"
    pictures.mkdir(exist_ok=True)
    for s in measured:
        shutil.copy(directory / f"{s.name}.svg", pictures)
    shown = [f"![{s.title}](charts/{s.name}.svg)" for s in measured]
    blocks = {s.name: tables(rows_of(bench, s)) for s in measured}
    blocks[None] = [*header(bench), "", *summary(bench, measured), "", *shown]

    def fill(match):
        lines = blocks.get(match[2])
        return "\n".join([match[1], "", *lines, "", match[4]]) if lines else match[0]

    marks = r"(<!-- bench(?::([\w-]+))?:begin -->)\n(.*?)(<!-- bench(?::\2)?:end -->)"
    document.write_text(re.sub(marks, fill, document.read_text(), flags=re.DOTALL))
