/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed frames: whatever follows whatever, a reader gets the plain bytes, each frame as soon
 * as its last byte is there. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "common/event.h"
#include "common/gzip.h"
#include "common/mem.h"
#include "client_rig.h"
#include "test/unit/rng.h"
#include "test/unit/vectors.h"
#include "test/unit/tests_run.h"

enum { FRAMES_MAX = 128, READ_STEP = 4096 };

/* --- a reader -------------------------------------------------------------------------------- */

struct reader {
    z_stream z;
    struct buf plain;
    bool ended;
};

/* @bits: 31 for a gzip stream, -15 for blocks alone. */
static void reader_start(struct reader *r, int bits)
{
    *r = (struct reader){0};
    ck_assert_int_eq(inflateInit2(&r->z, bits), Z_OK);
}

static void reader_feed(struct reader *r, const void *bytes, size_t len)
{
    r->z.next_in = (z_const Bytef *)(uintptr_t)bytes;
    r->z.avail_in = (uInt)len;
    do {
        buf_reserve(&r->plain, READ_STEP);
        r->z.next_out = (Bytef *)r->plain.ptr + r->plain.len;
        r->z.avail_out = READ_STEP;
        int rc = inflate(&r->z, Z_SYNC_FLUSH);
        ck_assert_msg(rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR, "inflate: %d", rc);
        r->plain.len += READ_STEP - r->z.avail_out;
        r->ended = rc == Z_STREAM_END;
    } while (r->z.avail_out == 0);
    ck_assert_uint_eq(r->z.avail_in, 0);
}

static void reader_feed_block(struct reader *r, const struct gzip_block *block)
{
    reader_feed(r, gzip_block_bytes(block).ptr, block->len);
}

static void reader_stop(struct reader *r)
{
    inflateEnd(&r->z);
    buf_reset(&r->plain);
}

/* --- frames ---------------------------------------------------------------------------------- */

static struct gzip *packer;
static struct slice plains[FRAMES_MAX];
static struct gzip_block *blocks[FRAMES_MAX];
static size_t frames;

static void add_frame(struct slice plain)
{
    ck_assert_uint_lt(frames, FRAMES_MAX);
    plains[frames] = plain;
    blocks[frames++] = gzip_pack(packer, plain);
}

/* Text of @len bytes that takes its words from a small set, or noise. */
static struct slice make_text(struct rng *rng, size_t len, bool noise)
{
    static const char *const words[] = {"{\"order\":", "\"price\":", "eu", "42,", " ", "\n"};
    struct buf b = {0};
    while (b.len < len)
        if (noise)
            buf_putc(&b, (char)rng_next(rng));
        else
            buf_puts(&b, words[rng_below(rng, sizeof(words) / sizeof(words[0]))]);
    b.len = len;
    size_t ignored;
    return (struct slice){buf_take(&b, &ignored), len};
}

static void add_vectors(void)
{
    cJSON *vectors = vectors_load("frames.json");
    const cJSON *vector;
    cJSON_ArrayForEach(vector, vectors)
    {
        struct slice wire = vectors_text(cJSON_GetObjectItemCaseSensitive(vector, "wire"));
        add_frame(wire);
    }
    cJSON_Delete(vectors);
    ck_assert_uint_ge(frames, 18);
}

static void setup(void)
{
    static const size_t sizes[] = {1, 2, 15, 100, 1024, 5000, 65534, 65535, 65536, 200000};
    struct rng rng = rng_seeded("test_gzip");
    packer = gzip_new();
    frames = 0;
    add_vectors();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        add_frame(make_text(&rng, sizes[i], false));
        add_frame(make_text(&rng, sizes[i], true));
    }
}

static void teardown(void)
{
    for (size_t i = 0; i < frames; i++) {
        free((void *)(uintptr_t)plains[i].ptr);
        free(blocks[i]);
    }
    gzip_free(packer);
    gzip_free(NULL);
}

/* --- tests ----------------------------------------------------------------------------------- */

START_TEST(test_each_frame_alone_gives_its_plain_bytes)
{
    for (size_t i = 0; i < frames; i++) {
        struct reader r;
        reader_start(&r, -MAX_WBITS);
        reader_feed_block(&r, blocks[i]);
        ck_assert_msg(slice_eq(buf_slice(&r.plain), plains[i]), "frame %zu", i);
        reader_stop(&r);
    }
}
END_TEST

static void feed_in_pieces(struct reader *r, struct rng *rng, const struct gzip_block *block)
{
    for (size_t at = 0; at < block->len;) {
        size_t left = block->len - at, n = 1 + rng_below(rng, left);
        reader_feed(r, gzip_block_bytes(block).ptr + at, n);
        at += n;
    }
}

/* A stream as clients get it: header and preamble, frames in any order, the end with its sum. */
START_TEST(test_any_order_is_a_whole_gzip_stream_and_nothing_is_late)
{
    struct rng rng = rng_seeded("test_gzip order");
    for (int round = 0; round < 30; round++) {
        struct reader r;
        struct buf start = {0};
        struct gzip_sum sum;
        char end[GZIP_END_BYTES];
        reader_start(&r, 31);
        gzip_put_start(&start, &sum, SLICE_LIT(":ok\nretry: 3000\n"));
        reader_feed(&r, start.ptr, start.len);
        ck_assert(slice_is(buf_slice(&r.plain), ":ok\nretry: 3000\n"));
        for (int n = 0; n < 40; n++) {
            size_t i = rng_below(&rng, frames), before = r.plain.len;
            feed_in_pieces(&r, &rng, blocks[i]);
            gzip_sum_add(&sum, blocks[i]);
            struct slice got = {r.plain.ptr + before, r.plain.len - before};
            ck_assert_msg(slice_eq(got, plains[i]), "frame %zu as number %d", i, n);
        }
        ck_assert(!r.ended);
        gzip_end(end, &sum);
        reader_feed(&r, end, sizeof end); /* inflate() checks sum and length */
        ck_assert(r.ended);
        buf_reset(&start);
        reader_stop(&r);
    }
}
END_TEST

START_TEST(test_a_block_does_not_depend_on_what_was_packed_before)
{
    struct gzip *blank = NULL;
    for (size_t i = frames; i-- > 0;) {
        blank = gzip_new();
        struct gzip_block *again = gzip_pack(packer, plains[i]);
        struct gzip_block *first = gzip_pack(blank, plains[i]);
        ck_assert_uint_eq(again->len, blocks[i]->len);
        ck_assert_uint_eq(first->len, blocks[i]->len);
        ck_assert(slice_eq(gzip_block_bytes(again), gzip_block_bytes(blocks[i])));
        ck_assert(slice_eq(gzip_block_bytes(first), gzip_block_bytes(blocks[i])));
        free(again);
        free(first);
        gzip_free(blank);
    }
}
END_TEST

START_TEST(test_it_is_never_longer_than_stored)
{
    for (size_t i = 0; i < frames; i++)
        ck_assert_uint_le(blocks[i]->len, plains[i].len + 5 * (1 + plains[i].len / 65535));
    struct gzip_block *small = gzip_pack(packer, SLICE_LIT(":\n"));
    ck_assert_uint_eq(small->len, 7);
    ck_assert_mem_eq(gzip_block_bytes(small).ptr, "\0\2\0\xfd\xff:\n", 7);
    free(small);
}
END_TEST

START_TEST(test_text_becomes_less)
{
    struct rng rng = rng_seeded("test_gzip less");
    struct slice text = make_text(&rng, 1024, false);
    gzip_take_counts(packer);
    struct gzip_block *block = gzip_pack(packer, text);
    struct gzip_counts counts = gzip_take_counts(packer);
    ck_assert_uint_lt(block->len, 512);
    ck_assert_uint_eq(counts.frames, 1);
    ck_assert_uint_eq(counts.plain_bytes, 1024);
    ck_assert_uint_eq(counts.packed_bytes, block->len);
    ck_assert_uint_eq(gzip_take_counts(packer).frames, 0);
    free(block);
    free((void *)(uintptr_t)text.ptr);
}
END_TEST

/* The bound of what one frame may cost the thread. */
START_TEST(test_what_is_very_large_is_stored)
{
    struct rng rng = rng_seeded("test_gzip large");
    for (size_t more = 0; more < 2; more++) {
        struct slice text = make_text(&rng, (1 << 20) + more, false);
        struct gzip_block *block = gzip_pack(packer, text);
        struct reader r;
        if (more)
            ck_assert_uint_eq(block->len, text.len + 5 * 17);
        else
            ck_assert_uint_lt(block->len, text.len / 2);
        reader_start(&r, -MAX_WBITS);
        reader_feed_block(&r, block);
        ck_assert(slice_eq(buf_slice(&r.plain), text));
        reader_stop(&r);
        free(block);
        free((void *)(uintptr_t)text.ptr);
    }
}
END_TEST

START_TEST(test_an_event_is_packed_once)
{
    struct event *ev = event_make(7, NULL, "{\"a\":1,\"a\":1,\"a\":1,\"a\":1,\"a\":1,\"a\":1}");
    gzip_take_counts(packer);
    const struct gzip_block *block = event_block(ev, packer);
    ck_assert_uint_lt(block->len, event_frame(ev).len);
    ck_assert_ptr_eq(event_block(ev, packer), block);
    ck_assert_uint_eq(gzip_take_counts(packer).frames, 1);
    event_unref(ev);
}
END_TEST

/* They are one client's, or tiny. */
START_TEST(test_control_frames_are_stored)
{
    struct event *ev = event_new_frame(0, SLICE_LIT("data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\n"));
    gzip_take_counts(packer);
    ck_assert_uint_eq(event_block(ev, packer)->len, event_frame(ev).len + 5);
    ck_assert_uint_eq(gzip_take_counts(packer).frames, 0);
    event_unref(ev);
}
END_TEST

/* --- a client's stream ----------------------------------------------------------------------- */

struct gzip_client {
    struct client client;
    struct buf sent;  /* what the socket took */
    struct buf plain; /* what it should be */
};

static const struct client_limits limits = {.max_events = 100, .max_bytes = 10000};

static void gzip_client_start(struct gzip_client *g)
{
    struct outbox_form form = {.packer = packer};
    *g = (struct gzip_client){0};
    buf_puts(&g->plain, ":ok\n");
    gzip_put_start(&g->sent, &form.sum, buf_slice(&g->plain));
    client_start_as(&g->client, NULL, &form);
    client_read_begin(&g->client);
    client_page(&g->client, &limits, NULL, 0, 0, true);
}

static void gzip_client_push(struct gzip_client *g, uint64_t id)
{
    struct event *ev = event_make(id, NULL, "some data, some data, some data, some data");
    ck_assert_int_eq(client_push(&g->client, &limits, ev), CLIENT_QUEUED);
    buf_put_slice(&g->plain, event_frame(ev));
    event_unref(ev);
}

static void gzip_client_expect(struct gzip_client *g)
{
    struct reader r;
    reader_start(&r, 31);
    reader_feed(&r, g->sent.ptr, g->sent.len);
    ck_assert(r.ended);
    ck_assert(slice_eq(buf_slice(&r.plain), buf_slice(&g->plain)));
    reader_stop(&r);
    client_reset(&g->client);
    buf_reset(&g->sent);
    buf_reset(&g->plain);
}

START_TEST(test_a_stream_in_pieces_is_whole_at_its_end)
{
    struct gzip_client g;
    gzip_client_start(&g);
    ck_assert(!outbox_has_output(&g.client.out));
    for (uint64_t id = 1; id <= 5; id++)
        gzip_client_push(&g, id);
    ck_assert_uint_eq(g.client.out.bytes, g.plain.len - 4); /* limits are in plain bytes */
    client_drain(&g.client, &g.sent, (size_t)_i);
    ck_assert_uint_eq(g.client.out.bytes, 0);
    client_put_control(&g.client, event_new_frame(0, SLICE_LIT(":\n")));
    buf_puts(&g.plain, ":\n");
    client_close(&g.client, true);
    client_drain(&g.client, &g.sent, (size_t)_i);
    ck_assert(!outbox_has_output(&g.client.out));
    gzip_client_expect(&g);
}
END_TEST

/* A slow client's stream ends between two events, and as a gzip stream. */
START_TEST(test_a_stream_that_is_cut_short_is_whole_at_its_end)
{
    struct gzip_client g;
    struct iovec iov[8];
    gzip_client_start(&g);
    gzip_client_push(&g, 1);
    size_t first = g.plain.len;
    gzip_client_push(&g, 2);
    outbox_frames(&g.client.out, iov, 8, 1000);
    buf_put(&g.sent, iov[0].iov_base, 5);
    outbox_sent(&g.client.out, 5);
    ck_assert_uint_eq(client_close(&g.client, false), 1);
    g.plain.len = first;
    client_drain(&g.client, &g.sent, 7);
    gzip_client_expect(&g);
}
END_TEST

START_TEST(test_a_stream_without_events_is_whole_at_its_end)
{
    struct gzip_client g;
    gzip_client_start(&g);
    client_close(&g.client, false);
    ck_assert(outbox_has_output(&g.client.out));
    client_drain(&g.client, &g.sent, 3);
    gzip_client_expect(&g);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("gzip");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_each_frame_alone_gives_its_plain_bytes);
    tcase_add_test(tests, test_any_order_is_a_whole_gzip_stream_and_nothing_is_late);
    tcase_add_test(tests, test_a_block_does_not_depend_on_what_was_packed_before);
    tcase_add_test(tests, test_it_is_never_longer_than_stored);
    tcase_add_test(tests, test_text_becomes_less);
    tcase_add_test(tests, test_what_is_very_large_is_stored);
    tcase_add_test(tests, test_an_event_is_packed_once);
    tcase_add_test(tests, test_control_frames_are_stored);
    tcase_add_loop_test(tests, test_a_stream_in_pieces_is_whole_at_its_end, 1, 60);
    tcase_add_test(tests, test_a_stream_that_is_cut_short_is_whole_at_its_end);
    tcase_add_test(tests, test_a_stream_without_events_is_whole_at_its_end);
    return tests_run(tests);
}
