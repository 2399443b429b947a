# SPDX-License-Identifier: Apache-2.0
"""The tables at the end: what was counted, by fault. docs/torture.md, "Reading the table"."""

from collections import Counter

import faults
from access import ACCESS, LEAK, TWO_STREAMS
from checker import BRIDGE, CHANGE, DROPPED, DUPLICATE, END, FALSE_GAP, HOLE, LANE

COLUMNS = [
    ("rounds", "times"), ("delivered", "delivered"), (HOLE, "holes"), (DUPLICATE, "twice"), (FALSE_GAP, "false gaps"),
    ("other", "other"), ("gaps", "gaps told"), ("lost", "lost"), ("forgotten", "forgotten"), ("told", "told/late/silent/stranded"),
    ("recovery", "caught up s"), ("silence", "silence s"),
]  # fmt: skip


OTHER = ("order", "stray", "log", "stuck", "process", LANE, DROPPED, END, CHANGE, BRIDGE, LEAK, ACCESS, TWO_STREAMS)


def print_table(table):
    rows = [["fault", *(title for _, title in COLUMNS)]]
    for kind in [k for k in faults.FAULTS if k in table]:
        count = table[kind]
        row = [kind]
        for name, _ in COLUMNS:
            if name == "other":
                row.append(str(sum(count[k] for k in OTHER)))
            elif name == "told":
                row.append(f"{count['forgotten-told']}/{count['forgotten-late']}/{count['forgotten-silent']}/{count['forgotten-stranded']}")
            elif name in ("recovery", "silence"):
                row.append(f"{count[name]:.1f}")
            else:
                row.append(str(count[name]))
        rows.append(row)
    print_rows(rows)


AUTH_COLUMNS = [
    ("with-auth", "times"), ("tokens", "tokens"), ("tickets", "tickets"), ("renewed", "renewed"),
    ("not renewed", "not"), ("revocations", "revocations"), ("rotations", "rotations"), ("ended revoked", "ended: revoked"),
    ("ended token-expired", "expired"), ("ended replaced", "replaced"), ("refused", "refused"), (LEAK, "leaks"),
    (ACCESS, "access"), (TWO_STREAMS, "two streams"), ("tolerated", "tolerated"), ("revoked-s", "revoked s"),
]  # fmt: skip
LONGEST = ("recovery", "silence", "revoked-s")


def print_auth_table(table):
    """Of the rounds with authentication, if there were any."""
    kinds = [k for k in faults.FAULTS if table.get(k, {}).get("with-auth")]
    rows = [["fault", *(title for _, title in AUTH_COLUMNS)]]
    for kind in kinds:
        values = [table[kind][name] for name, _ in AUTH_COLUMNS]
        rows.append([kind, *(f"{v:.1f}" if isinstance(v, float) else str(v) for v in values)])
    if kinds:
        print_rows(rows)


FLOW_COLUMNS = ("clients", "delivered", "merged", "joined", "dropped", "gaps", "ends", "204")


def print_flow_table(table):
    """By kind of client."""
    rows = [["client", *FLOW_COLUMNS]]
    for kind in sorted(table):
        rows.append([kind, *(str(table[kind][name]) for name in FLOW_COLUMNS)])
    print_rows(rows)


ASKED = ("changed", "paused", "resumed")


def print_asked(counts):
    """What clients wanted of open streams, and what they were answered."""
    print("asked of open streams  done  unknown  refused")
    for what in ASKED:
        found = [counts[name] for name in (what, f"{what}: unknown", f"{what}: no")]
        print(f"{what:21}" + "".join(str(n).rjust(w) for n, w in zip(found, (6, 9, 9))))
    print(f"404, and the connection went on: {counts['404, and it goes on']}")


def print_rows(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]))


def merge(total, table):
    for kind, count in table.items():
        into = total.setdefault(kind, Counter())
        for name, value in count.items():
            into[name] = max(into[name], value) if name in LONGEST else into[name] + value
