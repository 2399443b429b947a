"""build/bench/report.md, results.json, and a chart for each scenario."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from xml.sax.saxutils import escape

from peers import CORES, ROOT

FIRST = {  # the figure of a scenario's chart
    "fanout": "CPU µs/delivery",
    "targeted": "p99 ms",
    "matching": "µs/event",
    "sustained": "p99 ms",
    "idle": "KB/client",
    "storm": "s until all live",
    "workers": "deliveries/s",
    "publish": "events/s",
    "redis": "Redis µs/event",
    "fleet": "CPU µs/delivery",
}


def number(value):
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


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
        "kernel": platform.release(),
        "sse-relay": first_line("git", "describe", "--always", "--dirty"),
        "Redis": first_line("redis-server", "--version"),
        "nginx": first_line("nginx", "-v"),
        "nchan": nchan,
    }


def rows_of(bench, scenario):
    """{who: {figure: values}} in the order of the first runs."""
    rows = {}
    for result in bench.results:
        if result["scenario"] == scenario.name:
            row = rows.setdefault(result["who"], {})
            for name, value in result["figures"].items():
                row.setdefault(name, []).append(value)
    return rows


def table(rows):
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    runs = {who: max(map(len, row.values()), default=0) for who, row in rows.items()}
    lines = [f"| | runs | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for who, row in rows.items():
        cells = " | ".join(spread(row.get(name, [])) for name in names)
        lines.append(f"| {who} | {runs[who]} | {cells} |")
    return lines


def verdicts(bench, scenario):
    lines = []
    for what, measured, limit, more in scenario.targets(bench):
        if measured is None:
            verdict = "not measured"
        else:
            verdict = "reached" if (measured >= limit) == more or measured == limit else "**missed**"
        lines.append(f"| {what} | {'≥' if more else '≤'} {number(limit)} | {number(measured)} | {verdict} |")
    return ["| target | | measured | |", "|---|---|---|---|", *lines] if lines else []


def chart(title, figure, rows):
    """Bars of the medians, with a line from least to greatest, as SVG."""
    rows = {who: row[figure] for who, row in rows.items() if row.get(figure)}
    top = max((max(values) for values in rows.values()), default=0) or 1
    height = 50 + 28 * len(rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="760" height="{height}" fill="#fff"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
        f'<text x="10" y="38" fill="#555">{escape(figure)}: median of the runs, least to greatest</text>',
    ]
    for i, (who, values) in enumerate(rows.items()):
        y, scale = 50 + 28 * i, 380 / top
        middle, low, high = (250 + f(values) * scale for f in (statistics.median, min, max))
        color = "#1b6ca8" if who.startswith("sse-relay") else "#9aa5b1"
        out += [
            f'<text x="240" y="{y + 14}" text-anchor="end">{escape(who)}</text>',
            f'<rect x="250" y="{y}" width="{middle - 250:.1f}" height="20" fill="{color}"/>',
            f'<path d="M{low:.1f} {y + 10}H{high:.1f}M{low:.1f} {y + 6}v8M{high:.1f} {y + 6}v8" stroke="#222"/>',
            f'<text x="{high + 8:.1f}" y="{y + 14}">{number(statistics.median(values))}</text>',
        ]
    return "\n".join([*out, "</svg>", ""])


def section(bench, scenario, directory):
    rows = rows_of(bench, scenario)
    if not rows:
        return []
    figure = FIRST[scenario.name.split("-")[0]]
    picture = f"{scenario.name}.svg"
    (directory / picture).write_text(chart(scenario.title, figure, rows))
    notes = [f"- {text}" for name, text in bench.notes if name == scenario.name]
    parts = [table(rows), verdicts(bench, scenario), notes, [f"![{figure}]({picture})"]]
    return ["", f"## {scenario.title}", *(line for part in parts if part for line in ["", *part])]


def write(bench, scenarios, directory, busy):
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["# sse-relay: benchmark", "", "Medians of alternating runs, least and greatest in brackets.", ""]
    lines += [f"- {name}: {value}" for name, value in machine().items() if value]
    lines += [f"- command: `test/bench/run {bench.command}`"]
    lines += [f"- load when it began: {busy:.1f}" + (": **the machine was not idle**" if busy > 0.5 else "")]
    lines += [f"- not measured: {who}: {reason}" for who, reason in bench.skipped.items()]
    for scenario in scenarios:
        lines += section(bench, scenario, directory)
    (directory / "report.md").write_text("\n".join(lines) + "\n")
    whole = {"machine": machine(), "load": busy, "notes": bench.notes, "results": bench.results}
    temporary = directory / "results.json.new"
    temporary.write_text(json.dumps(whole, indent=1, ensure_ascii=False))
    os.replace(temporary, directory / "results.json")
