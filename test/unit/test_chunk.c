/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 chunks: a stream's body is one whatever the socket takes at a time and whenever the
 * stream ends, and what is in it is whole frames. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "client_rig.h"
#include "common/chunk.h"
#include "rng.h"
#include "test/unit/tests_run.h"

static const struct client_limits limits = {.max_events = 100, .max_bytes = 100000};

START_TEST(test_the_head_is_the_size_in_hexadecimal)
{
    static const struct {
        uint32_t size;
        const char *head;
    } cases[] = {{1, "1\r\n"},         {9, "9\r\n"},
                 {10, "a\r\n"},        {255, "ff\r\n"},
                 {256, "100\r\n"},     {0xfffff, "fffff\r\n"},
                 {65536, "10000\r\n"}, {UINT32_MAX, "ffffffff\r\n"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char room[CHUNK_HEAD_MAX + 1] = {0};
        size_t len = chunk_put_head(room + CHUNK_HEAD_MAX, cases[i].size);
        ck_assert_str_eq(room + CHUNK_HEAD_MAX - len, cases[i].head);
    }
}
END_TEST

START_TEST(test_an_event_is_a_chunk_around_its_frame)
{
    struct event *ev = event_make(7, "tick", "a");
    ck_assert(slice_is(event_frame(ev), "id: 7\nevent: tick\ndata: a\n\n"));
    ck_assert(slice_is(event_chunk(ev), "1b\r\nid: 7\nevent: tick\ndata: a\n\n\r\n"));
    ck_assert(slice_is(event_type(ev), "tick"));
    struct event *led = event_new_with_id(ev, 5);
    ck_assert(slice_is(event_chunk(led), "21\r\nid: 5\nid: 7\nevent: tick\ndata: a\n\n\r\n"));
    ck_assert(slice_is(event_topic(led), "t"));
    event_unref(led);
    event_unref(ev);
    ev = event_new_frame(0, SLICE_LIT(":\n"));
    ck_assert(slice_is(event_chunk(ev), "2\r\n:\n\r\n"));
    event_unref(ev);
}
END_TEST

/* Takes a whole body apart, to the letter, and nothing may follow it. */
static void take_chunks(struct slice body, struct buf *out)
{
    const char *at = body.ptr, *end = body.ptr + body.len;
    for (;;) {
        char *after;
        ck_assert_msg(at < end, "the last chunk is missing");
        size_t size = strtoul(at, &after, 16);
        ck_assert(after > at && end - after >= 2 && memcmp(after, "\r\n", 2) == 0);
        at = after + 2;
        ck_assert_uint_ge((size_t)(end - at), size + 2);
        buf_put(out, at, size);
        at += size;
        ck_assert_mem_eq(at, "\r\n", 2);
        at += 2;
        if (size == 0)
            break;
    }
    ck_assert_ptr_eq(at, end);
}

static void inflate_all(struct buf *packed, struct buf *out)
{
    z_stream z = {.next_in = (Bytef *)packed->ptr, .avail_in = (uInt)packed->len};
    ck_assert_int_eq(inflateInit2(&z, 31), Z_OK);
    buf_reserve(out, 1 << 20);
    z.next_out = (Bytef *)out->ptr;
    z.avail_out = 1 << 20;
    ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END); /* checks sum and length */
    ck_assert_uint_eq(z.avail_in, 0);
    out->len = z.total_out;
    inflateEnd(&z);
}

struct body {
    struct client client;
    struct rng rng;
    struct buf wire;     /* what the socket took */
    struct buf expected; /* the frames that were queued */
    size_t ends[64];     /* of each of these */
    size_t count;
};

static void body_push(struct body *b, uint64_t id)
{
    char data[400];
    size_t len = rng_below(&b->rng, sizeof(data) - 1);
    memset(data, 'x', len);
    data[len] = '\0';
    struct event *ev = event_make(id, NULL, data);
    ck_assert_int_eq(client_push(&b->client, &limits, ev), CLIENT_QUEUED);
    buf_put_slice(&b->expected, event_frame(ev));
    b->ends[b->count++] = b->expected.len;
    event_unref(ev);
}

/* The socket takes as much as it likes, at most @most bytes. */
static void body_send(struct body *b, size_t most)
{
    struct iovec iov[4];
    int count = outbox_frames(&b->client.out, iov, 4, 300);
    size_t offered = 0, sent = 0;
    for (int i = 0; i < count; i++)
        offered += iov[i].iov_len;
    size_t n = rng_below(&b->rng, (offered < most ? offered : most) + 1);
    for (int i = 0; i < count && sent < n; i++) {
        size_t part = iov[i].iov_len < n - sent ? iov[i].iov_len : n - sent;
        buf_put(&b->wire, iov[i].iov_base, part);
        sent += part;
    }
    outbox_sent(&b->client.out, n);
}

/* Whole frames, from the first one on. */
static void body_expect(struct body *b, struct slice plain, bool all)
{
    bool whole = plain.len == 0;
    for (size_t i = 0; i < b->count; i++)
        whole |= plain.len == b->ends[i];
    ck_assert(whole);
    ck_assert(!all || plain.len == b->expected.len);
    ck_assert(plain.len == 0 || memcmp(plain.ptr, b->expected.ptr, plain.len) == 0);
}

static void run_body(struct rng *rng, struct gzip *packer)
{
    struct outbox_form form = {.chunked = true, .packer = packer};
    struct body b = {.rng = *rng};
    struct buf start = {0}, taken = {0}, plain = {0};
    bool keep = rng_below(&b.rng, 2);
    if (packer) { /* the chunk that libmicrohttpd sends of the preamble */
        gzip_put_start(&start, &form.sum, SLICE_NONE);
        buf_printf(&b.wire, "%zx\r\n", start.len);
        buf_put_slice(&b.wire, buf_slice(&start));
        buf_puts(&b.wire, "\r\n");
    }
    client_start_as(&b.client, NULL, &form);
    client_read_begin(&b.client);
    client_page(&b.client, &limits, NULL, 0, 0, true);
    for (uint64_t id = 1, n = rng_below(&b.rng, 20); id <= n; id++) {
        body_push(&b, id);
        body_send(&b, 1 + rng_below(&b.rng, 700));
    }
    client_close(&b.client, keep);
    while (outbox_has_output(&b.client.out))
        body_send(&b, 1 + rng_below(&b.rng, 40));
    ck_assert_uint_eq(b.client.out.bytes, 0);
    take_chunks(buf_slice(&b.wire), packer ? &taken : &plain);
    if (packer)
        inflate_all(&taken, &plain);
    body_expect(&b, buf_slice(&plain), keep);
    *rng = b.rng;
    client_reset(&b.client);
    buf_reset(&b.wire);
    buf_reset(&b.expected);
    buf_reset(&start);
    buf_reset(&taken);
    buf_reset(&plain);
}

START_TEST(test_a_body_is_whole_whatever_the_socket_takes_and_whenever_it_ends)
{
    struct rng rng = rng_seeded("test_chunk body");
    struct gzip *packer = gzip_new();
    for (int round = 0; round < 2000; round++)
        run_body(&rng, round % 2 ? packer : NULL);
    gzip_free(packer);
}
END_TEST

START_TEST(test_a_body_of_http_1_0_has_no_chunks)
{
    static const struct outbox_form plain;
    struct client client;
    struct buf out = {0};
    client_start_as(&client, NULL, &plain);
    client_put_control(&client, event_new_frame(0, SLICE_LIT(":\n")));
    client_close(&client, true);
    client_drain(&client, &out, 1000);
    ck_assert(slice_is(buf_slice(&out), ":\n"));
    client_reset(&client);
    buf_reset(&out);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("chunk");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_the_head_is_the_size_in_hexadecimal);
    tcase_add_test(tests, test_an_event_is_a_chunk_around_its_frame);
    tcase_add_test(tests, test_a_body_is_whole_whatever_the_socket_takes_and_whenever_it_ends);
    tcase_add_test(tests, test_a_body_of_http_1_0_has_no_chunks);
    return tests_run(tests);
}
