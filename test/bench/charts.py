# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG: bars to compare contestants, a curve over a logarithmic axis."""

import math
import statistics
from xml.sax.saxutils import escape

OURS, OTHERS = "#1b6ca8", "#9aa5b1"
WIDTH = 760


def number(value):
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def frame(title, subtitle, height, content):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
        f'<text x="10" y="38" fill="#555">{escape(subtitle)}: median of the runs, least to greatest</text>',
        *content,
        "</svg>\n",
    ])  # fmt: skip


def bars(title, figure, rows, others):
    """@rows: {who: values}. Who is in @others is grey."""
    scale = 340 / (max((max(values) for values in rows.values()), default=0) or 1)
    out = []
    for i, (who, values) in enumerate(rows.items()):
        y = 50 + 28 * i
        middle, low, high = (300 + f(values) * scale for f in (statistics.median, min, max))
        out += [
            f'<text x="290" y="{y + 14}" text-anchor="end">{escape(who)}</text>',
            f'<rect x="300" y="{y}" width="{middle - 300:.1f}" height="20" fill="{OTHERS if who in others else OURS}"/>',
            f'<path d="M{low:.1f} {y + 10}H{high:.1f}M{low:.1f} {y + 6}v8M{high:.1f} {y + 6}v8" stroke="#222"/>',
            f'<text x="{high + 8:.1f}" y="{y + 14}">{number(statistics.median(values))}</text>',
        ]
    return frame(title, figure, 60 + 28 * len(rows), out)


def curve(title, figure, points, limit):
    """@points: {x: values}, x as powers of ten; @limit is drawn across."""
    left, right, top, bottom = 70, WIDTH - 40, 60, 300
    first, last = math.log10(min(points)), math.log10(max(points))
    most = 1.1 * max(limit, *(max(values) for values in points.values()))

    def at(x, y):
        share = (math.log10(x) - first) / ((last - first) or 1)
        return left + share * (right - left), bottom - y / most * (bottom - top)

    line = " ".join("%.1f,%.1f" % at(x, statistics.median(values)) for x, values in points.items())
    y = at(min(points), limit)[1]
    out = [
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#555"/>',
        f'<path d="M{left} {y:.1f}H{right}" stroke="#c0392b" stroke-dasharray="6 4"/>',
        f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#c0392b">{number(limit)}</text>',
        f'<text x="{left - 8}" y="{bottom + 4}" text-anchor="end">0</text>',
        f'<polyline points="{line}" fill="none" stroke="{OURS}" stroke-width="2"/>',
    ]
    for x, values in points.items():
        px, py = at(x, statistics.median(values))
        low, high = at(x, min(values))[1], at(x, max(values))[1]
        out += [
            f'<path d="M{px:.1f} {low:.1f}V{high:.1f}M{px - 4:.1f} {low:.1f}h8M{px - 4:.1f} {high:.1f}h8" stroke="#222"/>',
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{OURS}"/>',
            f'<text x="{px:.1f}" y="{high - 10:.1f}" text-anchor="middle">{number(statistics.median(values))}</text>',
            f'<text x="{px:.1f}" y="{bottom + 20}" text-anchor="middle">{number(x)}</text>',
        ]
    return frame(title, figure, bottom + 35, out)
