# SPDX-License-Identifier: Apache-2.0
"""Topics that end, against a real Redis, by schedules nobody thought of: the keys agree, and so does a simple model."""

import random

import pytest
import redis

from lua_ends_rig import due, end, ended, ended_index
from lua_rig import KEY, assert_chain, index, log, position, publish, r, raw, server, snapshot  # noqa: F401

TOPICS = ["a", "b", "c.d", "e.f.g"]
STEPS = 120


class Model:
    """What must be true of topics whose logs and ends are kept for as long as the test lasts."""

    def __init__(self, r, raw, seed):
        self.r, self.raw, self.random = r, raw, random.Random(seed)
        self.last, self.ends, self.ids, self.due = {}, {}, {}, {}
        self.log = {t: [] for t in TOPICS}

    def step(self):
        getattr(self, self.random.choice(["publish"] * 6 + ["end"] * 2 + ["once", "overdue", "look", "fail", "ask"]))()
        self.check()

    def topics(self):
        return self.random.sample(TOPICS, self.random.choice([1, 1, 1, 2, 3]))

    def publish(self, **more):
        topics, options = self.topics(), more
        for name, value in (("end", "1"), ("end_after", 600000), ("log_max", 1000), ("log_ttl", 7200000), ("ephemeral", 1)):
            if self.random.random() < 0.12 and not ("ephemeral" == name and options):
                options[name] = value
        if any(t in self.ends for t in topics) and "ephemeral" not in options:
            before = snapshot(self.raw)
            with pytest.raises(redis.ResponseError, match="^sse_publish: topic: ended$"):
                publish(self.r, *topics, **options)
            assert snapshot(self.raw) == before
            return None
        id = publish(self.r, *topics, **options)
        for t in topics if id else ():
            self.last[t] = id
            self.log[t].append(id)
            if "end" in options:
                self.ends[t] = (id, "end")
            elif "end_after" in options:
                self.due[t] = id
        return id

    def once(self):
        key = f"k{self.random.randrange(4)}"
        if key in self.ids:
            assert publish(self.r, *self.topics(), once=key) == self.ids[key]
        else:
            id = self.publish(once=key)
            if id:
                self.ids[key] = id

    def end(self):
        (topic,), reason = self.random.sample(TOPICS, 1), self.random.choice(["end", "cancelled", "timeout"])
        last = self.random.choice([None, None, self.last.get(topic, "0"), "7"])
        answer = end(self.r, topic, "reason", reason, *(("last", last) if last else ()))
        if topic in self.ends:
            assert answer == [*self.ends[topic], "0"]
        elif last and last != self.last.get(topic, "0"):
            assert answer == ["0", "", "0"]
        else:
            assert answer[1:] == [reason, "1"]
            self.is_ended(topic, answer[0], reason)

    def is_ended(self, topic, id, reason):
        self.last[topic], self.ends[topic] = id, (id, reason)
        self.log[topic].append(id)

    def overdue(self):
        """The time of all that is to end by silence has come."""
        for topic in self.due:
            self.r.zadd(f"{KEY}:due", {topic: 1})
        self.random.choice([due, position, lambda r: r.fcall("sse_since", 1, KEY, "cursor", "0")])(self.r)
        for topic, id in self.due.items():
            if self.last.get(topic) == id and topic not in self.ends:
                self.is_ended(topic, *ended(self.r, topic)[topic])
                assert self.ends[topic][1] == "timeout"
        self.due = {}
        assert not self.r.exists(f"{KEY}:due", f"{KEY}:due:id")

    def look(self):
        cursor = self.random.choice(["0", *self.last.values()])
        by_name = [t for t in TOPICS if self.random.random() < 0.3]
        function = self.random.choice(["sse_since", "sse_look"] if self.last else ["sse_since"])
        limit = self.random.choice([(), ("limit", "128")])
        args = [a for t in by_name for a in ("topic", t)] + ["prefix", ""]
        answer = self.r.fcall(function, 1, KEY, "cursor", cursor, *args, *limit)
        moved = {t for t, last in self.last.items() if int(last) > int(cursor)}
        told = dict(zip(answer[3][::2], answer[3][1::2]))
        assert told == {t: self.last.get(t, "0") for t in moved | set(by_name)}
        assert dict(zip(answer[5][::2], answer[5][1::2])) == {t: self.ends[t][1] for t in told if t in self.ends}
        assert [t for t in told if t in self.ends] == answer[5][::2]  # in the same order
        assert answer[4] == answer[0] == (self.r.get(f"{KEY}:seq"))

    def fail(self):
        """One of the logs is something else: nothing is half published."""
        topic = self.random.choice([t for t in TOPICS if t in self.last and t not in self.ends] or [None])
        if not topic:
            return
        others = [t for t in TOPICS if t != topic and t not in self.ends]
        dues = self.r.zrange(f"{KEY}:due", 0, -1, withscores=True), self.r.zrange(f"{KEY}:due:id", 0, -1, withscores=True)
        self.r.rename(f"{KEY}:log:{topic}", f"{KEY}:aside")
        self.r.set(f"{KEY}:log:{topic}", "not a stream")
        options = self.random.choice([{}, {"end": 1}, {"end_after": 1}, {"once": "fails", "end": 1, "log_ttl": 5000}])
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            publish(self.r, *others, topic, **options)
        if self.random.random() < 0.5:
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                end(self.r, topic)
        self.r.rename(f"{KEY}:aside", f"{KEY}:log:{topic}")
        assert not self.r.exists(f"{KEY}:once:fails")
        assert dues == (
            self.r.zrange(f"{KEY}:due", 0, -1, withscores=True), self.r.zrange(f"{KEY}:due:id", 0, -1, withscores=True)
        )  # fmt: skip

    def ask(self):
        assert ended(self.r, *TOPICS) == self.ends

    def check(self):
        assert {t: str(id) for t, id in index(self.r).items()} == {t: i for t, i in self.last.items() if t not in self.ends}
        assert {t: str(id) for t, id in ended_index(self.r).items()} == {t: id for t, (id, _) in self.ends.items()}
        assert set(self.r.zrange(f"{KEY}:ended:until", 0, -1)) == set(self.ends)
        assert set(self.r.zrange(f"{KEY}:due", 0, -1)) == set(self.r.zrange(f"{KEY}:due:id", 0, -1)) == set(self.due)
        for topic in TOPICS:
            entries = log(self.r, topic)
            if entries:
                assert_chain(entries)
            assert [str(id) for id, _ in entries] == self.log[topic]
            assert [f.get("end") for _, f in entries if "end" in f] == ([self.ends[topic][1]] if topic in self.ends else [])


@pytest.mark.parametrize("seed", range(12))
def test_what_the_keys_hold_is_what_was_done(r, raw, seed):
    model = Model(r, raw, seed)
    for _ in range(STEPS):
        model.step()
        if len(model.ends) == len(TOPICS):  # they are over, as if their time had passed
            r.delete(*(f"{KEY}:log:{t}" for t in TOPICS))
            r.zadd(f"{KEY}:ended:until", {t: 11 for t in TOPICS})
            last = max(map(int, model.last.values()))
            model.last, model.ends, model.log = {}, {}, {t: [] for t in TOPICS}
            for topic in TOPICS:  # each makes way, or is pruned by another that ends
                model.is_ended(topic, end(r, topic)[0], "end") if topic == "a" else None
                if topic != "a":
                    id = publish(r, topic)
                    model.last[topic] = id
                    model.log[topic].append(id)
            assert int(r.get(f"{KEY}:horizon")) >= int(r.get(f"{KEY}:pruned")) == last
            model.check()
