# SPDX-License-Identifier: Apache-2.0
"""Bodies with a Content-Encoding: undone before anything else looks at them, and within bounds."""

import gzip
import json
import zlib

import pytest

from raw_http import assert_problem
from relay_process import wait_until

MB = 1024 * 1024
LIMIT = 2 * MB  # of a coded body, as it came and plain


def bare(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress, "Deflate": bare}


def post(relay, body, coding="gzip", type="text/plain", query="?topic=t", chunked=False, **headers):
    headers = {"Content-Type": type, "Content-Encoding": coding, **headers}
    return relay.post("/publish" + query, iter([body]) if chunked else body, headers=headers)


def held(relay):
    return relay.metric("sse_relay_http_body_bytes")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
def test_plain_text_arrives(relay, sse_connect, coding, chunked):
    client = sse_connect(relay, "t")
    text = "héllo\n" * 1000
    assert post(relay, CODINGS[coding](text.encode()), coding, chunked=chunked).status_code == 200
    assert client.wait_for(1).data == [text]
    wait_until(lambda: held(relay) == 0, "the body to be let go")  # behind its answer


def test_json_and_forms_are_read_behind_it(relay, sse_connect):
    client = sse_connect(relay, "t")
    event = json.dumps([{"topic": "t", "data": "json"}]).encode()
    assert post(relay, gzip.compress(event), type="application/json", query="").status_code == 200
    form = b"topic=t&data=form"
    assert post(relay, zlib.compress(form), "deflate", "application/x-www-form-urlencoded", "").status_code == 200
    assert client.wait_for(2).data == ["json", "form"]


def test_members_of_gzip_are_one_body(relay, sse_connect):
    client = sse_connect(relay, "t")
    assert post(relay, gzip.compress(b"one, ") + gzip.compress(b"two")).status_code == 200
    assert client.wait_for(1).data == ["one, two"]


BROKEN = {
    "nothing": b"",  # in chunks: else there is no body
    "plain": b"hello",
    "cut": gzip.compress(b"hello")[:-1],
    "more": gzip.compress(b"hello") + b"x",
    "other": zlib.compress(b"hello"),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_gzip_is_refused(relay, what, chunked):
    answer = post(relay, BROKEN[what], chunked=chunked or what == "nothing")
    assert assert_problem(answer, 400).startswith("Content-Encoding:")
    assert answer.json()["published"] is False


def test_an_empty_body_has_no_coding(relay):
    assert post(relay, b"").status_code == 200


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "identity, gzip", "gzipx"])
def test_other_codings_are_refused(relay, coding):
    answer = post(relay, b"x", coding)
    assert assert_problem(answer, 415).startswith("Content-Encoding:")
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"
    assert answer.json()["published"] is False


def test_a_415_for_the_type_names_no_codings(relay):
    answer = relay.post("/publish?topic=t", b"x", headers={"Content-Type": "text/plain; charset=latin1"})
    assert answer.status_code == 415 and "Accept-Encoding" not in answer.headers


# --- bounds ---


def test_data_is_bounded_when_it_is_plain(relay):
    assert post(relay, gzip.compress(b"x" * MB)).status_code == 200
    assert assert_problem(post(relay, gzip.compress(b"x" * (MB + 1))), 413).startswith("data:")


def test_plain_bytes_are_bounded(relay_factory):
    relay = relay_factory({"max_event_bytes": "4MB"})
    assert post(relay, gzip.compress(b"x" * LIMIT)).status_code == 200
    assert relay.post("/publish?topic=t", b"x" * (LIMIT + 1)).status_code == 200
    for bomb in (gzip.compress(b"x" * (LIMIT + 1)), gzip.compress(b"\0" * 500 * MB, 1)):
        answer = post(relay, bomb)
        assert "2 MB" in assert_problem(answer, 413)
        assert answer.json()["published"] is False
    wait_until(lambda: held(relay) == 0, "the body to be let go")  # behind its answer


@pytest.mark.parametrize("chunked", [False, True])
def test_coded_bytes_are_bounded(relay_factory, chunked):
    """Empty members: many bytes that become none."""
    relay = relay_factory({"max_event_bytes": "4MB"})
    member = gzip.compress(b"")
    fit = member * (LIMIT // len(member))
    assert post(relay, fit, chunked=chunked).status_code == 200
    assert "2 MB" in assert_problem(post(relay, fit + member, chunked=chunked), 413)


def test_a_smaller_bound_of_all_bodies_holds(relay_factory):
    relay = relay_factory({"max_event_bytes": "1KB"})
    assert assert_problem(post(relay, gzip.compress(b"x" * 8193)), 413).startswith("the body")
    assert assert_problem(post(relay, gzip.compress(b"x" * 8192)), 413).startswith("data:")


def test_what_is_held_counts_plain(relay_factory):
    """Where the plain body does not fit beside what is held, it is refused for now."""
    relay = relay_factory({"max_event_bytes": "256KB", "publish.max_held_bytes": "64KB"})
    assert post(relay, gzip.compress(b"x" * 60000)).status_code == 200
    assert post(relay, gzip.compress(b"x" * 65536)).status_code in (413, 503)
    assert post(relay, gzip.compress(b"x" * 65537)).status_code in (413, 503)
    wait_until(lambda: held(relay) == 0, "the body to be let go")  # behind its answer


def test_only_what_is_published_is_decoded(relay):
    answer = relay.request("GET", "/health", data=b"no gzip", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 200
