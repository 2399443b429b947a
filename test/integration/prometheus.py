# SPDX-License-Identifier: Apache-2.0
"""A strict reader of the Prometheus text format 0.0.4."""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(\{{(.*)\}})? (\S+)( -?[0-9]+)?")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


def _labels(text):
    labels, at = {}, 0
    while at < len(text or ""):
        m = LABEL.match(text, at)
        assert m, f"bad labels: {text}"
        assert m[1] not in labels, f"label twice: {text}"
        labels[m[1]] = m[2]
        at = m.end()
    return labels


def _family(name, types):
    for suffix in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if base != name and types.get(base) in ("histogram", "summary"):
            return base
    return name


def parse_prometheus(text):
    """{sample with labels: value}. Fails on anything a scraper could refuse or misread."""
    assert text.endswith("\n")
    helps, types, samples, done, current = {}, {}, {}, set(), None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, words = line[7:].partition(" ")
            assert re.fullmatch(NAME, name) and name not in helps and words, line
            helps[name] = words
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert kind in TYPES and name not in types, line
            types[name] = kind
        elif line and not line.startswith("#"):
            m = SAMPLE.fullmatch(line)
            assert m, f"not a sample: {line!r}"
            _labels(m[3])
            family = _family(m[1], types)
            assert family in types and family in helps, f"no HELP or TYPE before {line!r}"
            if family != current:
                assert family not in done, f"{family} is not in one piece"
                done.add(current)
                current = family
            key = m[1] + (m[2] or "")
            assert key not in samples, f"twice: {key}"
            samples[key] = float(m[4])
    _check_histograms(types, samples)
    return samples


def _check_histograms(types, samples):
    for name in (n for n, kind in types.items() if kind == "histogram"):
        buckets = [v for k, v in samples.items() if k.startswith(name + "_bucket")]
        assert buckets and buckets == sorted(buckets), name
        assert buckets[-1] == samples[name + "_count"] and name + "_sum" in samples, name
        assert f'{name}_bucket{{le="+Inf"}}' in samples, name
