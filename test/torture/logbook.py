# SPDX-License-Identifier: Apache-2.0
"""What the doors said against what the logs have, and transcripts as text. Part of checker.py."""

from client import Violation
from ledger import LOG


def judge_log(entries, outcomes, may_lose, lost_ids=()):
    """Did the doors keep their word? @entries: Event objects found in the logs at the end of a round.
    @outcomes: key → ("acked", id), ("queued", None), ("refused", None), ("unknown", None).
    @may_lose: None, or predicate(topics): a fault of this round may have taken such events.
    @lost_ids: ids known to have been in a log and gone again: a publish that was tried again after that is no repetition."""
    violations = []
    lost_ids, ids = set(lost_ids), {}
    for event in entries:
        ids.setdefault(event.key, set()).add(event.id)

    def violated(what):
        violations.append(Violation(LOG, "publisher", what))

    for key, found in ids.items():
        if len(found - lost_ids) > 1:
            violated(f"{key} was published twice: {sorted(found)}")
    for key, (outcome, id, topics) in outcomes.items():
        found = ids.get(key)
        if outcome == "refused" and found:
            violated(f"{key} was refused, but the log has it as {sorted(found)}")
        elif outcome in ("acked", "queued") and not found:
            if not (may_lose and may_lose(topics)):
                violated(f"{key} was accepted ({outcome}, {id}) and is not in the log")
        elif outcome == "acked" and id not in found | lost_ids:
            violated(f"{key} was accepted as {id}, the log has it as {sorted(found)}")
    return violations


def show(record):
    what, *rest = record
    names = {
        "position": ("id",),
        "open": ("last-event-id", "with"),
        "connected": ("id", "connection"),
        "asks": ("beside",),
        "patch": ("add", "remove"),
        "patched": ("status", "topics"),
        "subscribed": ("topics", "from"),
        "unsubscribed": ("topics", "when"),
        "pause": (),
        "paused": (),
        "resumed": (),
        "event": ("id", "type", "key", "behind"),
        "gap": ("id", "from", "to", "reason"),
        "dropped": ("id", "count"),
        "end": ("topic", "id", "reason"),
        "over": (),
        "enough": (),
        "broken": ("what",),
        "close": ("why",),
        "right": ("tokens",),
        "expiring": ("in",),
        "shutdown": ("reason", "when"),
        "refused": ("status", "when"),
    }[what]
    return what + " " + " ".join(f"{n}={v}" for n, v in zip(names, rest) if v is not None or what == "gap")
