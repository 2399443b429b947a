/* SPDX-License-Identifier: Apache-2.0 */
/* Events in other formats: what their bytes are, that each is made once for all who ask, and that
 * what is not asked for is not made. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "client_rig.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "test/unit/tests_run.h"

static struct event *make(uint64_t id, struct slice type, struct slice data)
{
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("default"),
                                  .topic = SLICE_LIT("a.b"),
                                  .type = type,
                                  .data = data,
                                  .is_untyped = !type.ptr};
    return event_new(&fields, 0);
}

static void expect(struct event *ev, unsigned format, const char *want)
{
    struct slice frame = event_form_frame(event_form(ev, format));
    ck_assert_msg(slice_is(frame, want), "got %.*s", (int)frame.len, frame.ptr);
}

/* --- json ------------------------------------------------------------------------------------- */

static const struct {
    struct slice data;
    const char *want;
} datas[] = {
    {SLICE_LIT("{\"a\": 1}"), "{\"a\": 1}"},
    {SLICE_LIT("[]"), "[]"},
    {SLICE_LIT("42"), "42"},
    {SLICE_LIT("-0.50E+7"), "-0.50E+7"},
    {SLICE_LIT("1e400"), "1e400"},
    {SLICE_LIT("9007199254740993"), "9007199254740993"},
    {SLICE_LIT("true"), "true"},
    {SLICE_LIT("null"), "null"},
    {SLICE_LIT("\"text\""), "\"text\""},
    {SLICE_LIT("\"\\ud83d\""), "\"\\ud83d\""},
    {SLICE_LIT(" 1\t"), " 1\t"},
    {SLICE_LIT(""), "\"\""},
    {SLICE_LIT("a"), "\"a\""},
    {SLICE_LIT("a \"quoted\" \\ text"), "\"a \\\"quoted\\\" \\\\ text\""},
    {SLICE_LIT("007"), "\"007\""},
    {SLICE_LIT("1."), "\"1.\""},
    {SLICE_LIT("NaN"), "\"NaN\""},
    {SLICE_LIT("{\"a\":}"), "\"{\\\"a\\\":}\""},
    {SLICE_LIT("{\"a\":1}{\"a\":2}"), "\"{\\\"a\\\":1}{\\\"a\\\":2}\""},
    {SLICE_LIT("two\r\nlines\r"), "\"two\\nlines\\n\""},
    {SLICE_LIT("\n"), "\"\\n\""},
    {SLICE_LIT("{\"a\":\n  [1,\r\n   2.50 ],\"b c\" : \"d  e\"}\n"),
     "{\"a\":[1,2.50],\"b c\":\"d  e\"}"},
    {SLICE_LIT("\n\"x \"\n"), "\"x \""},
    {SLICE_LIT("\"a\nb\""), "\"\\\"a\\nb\\\"\""},
    {SLICE_LIT("{\0\"a\"\0:1}"), "{\"a\":1}"},
    {SLICE_LIT("\xFF"), "\"\xEF\xBF\xBD\""},
    {SLICE_LIT("\"\xFF\""), "\"\xEF\xBF\xBD\""},
    {SLICE_LIT("\xEF\xBB\xBF{}"), "\"\xEF\xBB\xBF{}\""},
    {SLICE_LIT("\xE2\x80\xA8\x01\x7F"), "\"\xE2\x80\xA8\\u0001\x7F\""},
};

START_TEST(test_data_is_json_where_it_is_json_and_else_text)
{
    struct buf want = {0};
    struct event *ev = make(1767225600123456, SLICE_NONE, datas[_i].data);
    buf_puts(&want, "id: 1767225600123456\n"
                    "data: {\"topic\":\"a.b\",\"time\":1767225600123,\"data\":");
    buf_puts(&want, datas[_i].want);
    buf_puts(&want, "}\n\n");
    buf_putc(&want, '\0');
    expect(ev, EVENT_AS_JSON, want.ptr);
    event_unref(ev);
    buf_reset(&want);
}
END_TEST

START_TEST(test_all_other_lines_are_as_ever)
{
    struct event_fields fields = {.id = 2000,
                                  .retry_ms = 5000,
                                  .topic = SLICE_LIT("caf\xC3\xA9.\"x\"\\"),
                                  .type = SLICE_LIT("o\"k"),
                                  .data = SLICE_LIT("x")};
    struct event *ev = event_new(&fields, 0);
    expect(ev, EVENT_AS_JSON,
           "id: 2000\nevent: o\"k\nretry: 5000\n"
           "data: {\"topic\":\"caf\xC3\xA9.\\\"x\\\"\\\\\",\"event\":\"o\\\"k\",\"time\":2,"
           "\"data\":\"x\"}\n\n");
    event_unref(ev);
}
END_TEST

START_TEST(test_an_event_without_an_id_has_the_time_of_its_arrival)
{
    struct event_fields fields = {.retry_ms = -1, .topic = SLICE_LIT("t"), .data = SLICE_LIT("x")};
    uint64_t mono = clock_mono_us(), age = mono > 5000000 ? 5000000 : mono / 2;
    uint64_t before = clock_wall_us(), time;
    struct event *ev = event_new(&fields, mono - age);
    struct slice frame = event_form_frame(event_form(ev, EVENT_AS_JSON)), raw;
    uint64_t after = clock_wall_us();
    ck_assert(slice_has_prefix(frame, SLICE_LIT("data: ")));
    ck_assert(json_raw_member((struct slice){frame.ptr + 6, frame.len - 8}, "time", &raw) == OK);
    ck_assert(slice_u64(raw, UINT64_MAX, &time) == OK);
    /* Rendered after `before`, of one that is `age` old and a little more by then. */
    ck_assert_uint_ge(time, (before - age) / 1000 - 60000);
    ck_assert_uint_le(time, (after - age) / 1000 + 1);
    event_unref(ev);
}
END_TEST

/* --- types ------------------------------------------------------------------------------------ */

START_TEST(test_the_type_of_one_without_is_its_topic)
{
    struct event *ev = make(7000, SLICE_NONE, SLICE_LIT("x\ny"));
    expect(ev, EVENT_SWAPS_TYPE, "id: 7000\nevent: a.b\ndata: x\ndata: y\n\n");
    expect(ev, EVENT_SWAPS_TYPE | EVENT_AS_JSON,
           "id: 7000\nevent: a.b\n"
           "data: {\"topic\":\"a.b\",\"event\":\"a.b\",\"time\":7,\"data\":\"x\\ny\"}\n\n");
    expect(ev, EVENT_AS_JSON,
           "id: 7000\ndata: {\"topic\":\"a.b\",\"time\":7,\"data\":\"x\\ny\"}\n\n");
    expect(ev, EVENT_PLAIN, "id: 7000\ndata: x\ndata: y\n\n");
    event_unref(ev);
}
END_TEST

START_TEST(test_where_the_node_has_named_it_the_topic_goes)
{
    struct event_fields fields = {.id = 7000,
                                  .retry_ms = 1,
                                  .topic = SLICE_LIT("a.b"),
                                  .type = SLICE_LIT("a.b"),
                                  .data = SLICE_LIT(""),
                                  .is_untyped = true};
    struct event *ev = event_new(&fields, 0);
    expect(ev, EVENT_SWAPS_TYPE, "id: 7000\nretry: 1\ndata: \n\n");
    expect(ev, EVENT_SWAPS_TYPE | EVENT_AS_JSON,
           "id: 7000\nretry: 1\ndata: {\"topic\":\"a.b\",\"time\":7,\"data\":\"\"}\n\n");
    event_unref(ev);
}
END_TEST

START_TEST(test_what_makes_no_difference_is_not_made)
{
    size_t before = event_live_bytes();
    struct event *typed = make(1, SLICE_LIT("tick"), SLICE_LIT("x"));
    struct event *own = event_new_frame(0, SLICE_LIT("event: relay.gap\ndata: {}\n\n"));
    size_t made = event_live_bytes();
    expect(typed, EVENT_SWAPS_TYPE, "id: 1\nevent: tick\ndata: x\n\n");
    for (unsigned format = 0; format < 4; format++)
        expect(own, format, "event: relay.gap\ndata: {}\n\n");
    ck_assert_uint_eq(event_live_bytes(), made);
    ck_assert_ptr_eq(event_form(typed, EVENT_AS_JSON),
                     event_form(typed, EVENT_AS_JSON | EVENT_SWAPS_TYPE));
    ck_assert_uint_gt(event_live_bytes(), made);
    event_unref(typed);
    event_unref(own);
    ck_assert_uint_eq(event_live_bytes(), before);
}
END_TEST

/* --- copies ----------------------------------------------------------------------------------- */

START_TEST(test_a_copy_with_an_id_has_the_same_envelope)
{
    struct event_fields fields = {
        .retry_ms = -1, .topic = SLICE_LIT("a.b"), .data = SLICE_LIT("[1]"), .is_untyped = true};
    struct event *ev = event_new(&fields, 0), *copy = event_new_with_id(ev, 99);
    struct slice frame = event_form_frame(event_form(copy, EVENT_AS_JSON | EVENT_SWAPS_TYPE));
    ck_assert(slice_has_prefix(
        frame,
        SLICE_LIT("id: 99\nevent: a.b\ndata: {\"topic\":\"a.b\",\"event\":\"a.b\",\"time\":")));
    /* It has no id of its own, which a time could be of. */
    ck_assert(!memmem(frame.ptr, frame.len, "\"time\":0,", 9));
    event_unref(copy);
    event_unref(ev);
}
END_TEST

static struct event *piece(uint64_t id, struct slice data)
{
    struct event_fields fields = {.id = id,
                                  .retry_ms = -1,
                                  .topic = SLICE_LIT("chat"),
                                  .data = data,
                                  .is_untyped = true,
                                  .lane = LANE_APPENDED};
    return event_new(&fields, 0);
}

/* Else "4" and "2" would be numbers alone, and nobody could put them together again. */
START_TEST(test_pieces_of_a_text_are_texts_joined_or_not)
{
    struct event *pieces[] = {piece(1000, SLICE_LIT("4\r")), piece(2000, SLICE_LIT("\n2")),
                              piece(3000, SLICE_LIT("null"))};
    struct event *joined = event_join(pieces, 3);
    expect(pieces[2], EVENT_AS_JSON,
           "id: 3000\ndata: {\"topic\":\"chat\",\"time\":3,\"data\":\"null\"}\n\n");
    expect(joined, EVENT_AS_JSON,
           "id: 3000\ndata: {\"topic\":\"chat\",\"time\":3,\"data\":\"4\\n\\n2null\"}\n\n");
    expect(joined, EVENT_SWAPS_TYPE, "id: 3000\nevent: chat\ndata: 4\ndata: \ndata: 2null\n\n");
    event_unref(joined);
    for (size_t i = 0; i < 3; i++)
        event_unref(pieces[i]);
}
END_TEST

/* --- once for all ----------------------------------------------------------------------------- */

enum { THREADS = 4, EVENTS = 400 };

struct asked {
    struct event **events;
    struct event_form *forms[EVENTS];
    const struct gzip_block *blocks[EVENTS];
};

static void *ask_for_all(void *arg)
{
    struct asked *asked = arg;
    struct gzip *g = gzip_new();
    for (size_t i = 0; i < EVENTS; i++) {
        while (!asked->forms[i])
            asked->forms[i] = event_form(asked->events[i], 1 + (unsigned)i % 3);
        while (!asked->blocks[i])
            asked->blocks[i] = event_form_block(asked->events[i], asked->forms[i], g);
    }
    gzip_free(g);
    return NULL;
}

START_TEST(test_threads_that_ask_together_make_each_form_once)
{
    static struct asked asked[THREADS];
    struct event *events[EVENTS];
    pthread_t threads[THREADS];
    size_t before = event_live_bytes();
    for (uint64_t i = 0; i < EVENTS; i++)
        events[i] = make(1 + i, SLICE_NONE, SLICE_LIT("{\"price\": 10, \"price2\": 10}"));
    for (size_t t = 0; t < THREADS; t++) {
        asked[t].events = events;
        ck_assert_int_eq(pthread_create(&threads[t], NULL, ask_for_all, &asked[t]), 0);
    }
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (size_t t = 1; t < THREADS; t++)
        for (size_t i = 0; i < EVENTS; i++) {
            ck_assert_ptr_eq(asked[t].forms[i], asked[0].forms[i]);
            ck_assert_ptr_eq(asked[t].blocks[i], asked[0].blocks[i]);
        }
    for (size_t i = 0; i < EVENTS; i++)
        event_unref(events[i]);
    ck_assert_uint_eq(event_live_bytes(), before);
}
END_TEST

START_TEST(test_what_a_log_has_is_counted_in_no_form)
{
    size_t before = event_live_bytes();
    struct event *ev = make(1, SLICE_NONE, SLICE_LIT("x"));
    event_set_stored(ev, true);
    ck_assert_ptr_nonnull(event_form(ev, EVENT_AS_JSON));
    ck_assert_uint_eq(event_live_bytes(), before);
    event_set_stored(ev, false);
    event_unref(ev);
    ck_assert_uint_eq(event_live_bytes(), before);
}
END_TEST

/* --- streams ---------------------------------------------------------------------------------- */

static void put_envelope(struct buf *b, uint64_t id, const char *data)
{
    buf_printf(b, "id: %llu\ndata: {\"topic\":\"t\",\"time\":%llu,\"data\":%s}\n\n",
               (unsigned long long)id, (unsigned long long)(id / 1000), data);
}

static void push(struct client *c, uint64_t id, const char *data)
{
    static const struct client_limits limits = {.max_events = 64, .max_bytes = 1 << 20};
    struct event *ev = event_make(id, NULL, data);
    ck_assert_int_eq(client_push(c, &limits, ev), CLIENT_QUEUED);
    event_unref(ev);
}

static void go_live(struct client *c)
{
    static const struct client_limits limits = {.max_events = 64, .max_bytes = 1 << 20};
    client_read_begin(c);
    ck_assert(client_page(c, &limits, NULL, 0, 1, true));
}

START_TEST(test_a_stream_of_json_in_pieces)
{
    struct outbox_form form = {.format = EVENT_AS_JSON};
    struct client c;
    struct buf got = {0}, want = {0};
    client_start_as(&c, NULL, &form);
    go_live(&c);
    push(&c, 1000, "{\"n\": 1}");
    push(&c, 2000, "two");
    client_put_control(&c, event_new_frame(0, SLICE_LIT("event: relay.x\ndata: {}\n\n")));
    push(&c, 3000, "a\nb");
    ck_assert_uint_lt(c.out.bytes, 120); /* limits are in plain bytes */
    put_envelope(&want, 1000, "{\"n\": 1}");
    put_envelope(&want, 2000, "\"two\"");
    buf_puts(&want, "event: relay.x\ndata: {}\n\n");
    put_envelope(&want, 3000, "\"a\\nb\"");
    client_drain(&c, &got, (size_t)_i);
    ck_assert(slice_eq(buf_slice(&got), buf_slice(&want)));
    ck_assert_uint_eq(c.out.bytes, 0);
    client_reset(&c);
    buf_reset(&got);
    buf_reset(&want);
}
END_TEST

static void inflate_all(const struct buf *packed, struct buf *plain)
{
    z_stream z = {0};
    ck_assert_int_eq(inflateInit2(&z, 31), Z_OK);
    buf_reserve(plain, 65536);
    z.next_in = (z_const Bytef *)packed->ptr;
    z.avail_in = (uInt)packed->len;
    z.next_out = (Bytef *)plain->ptr;
    z.avail_out = 65536;
    ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END); /* with its check sum */
    plain->len = 65536 - z.avail_out;
    inflateEnd(&z);
}

START_TEST(test_a_compressed_stream_of_json_is_whole)
{
    struct outbox_form form = {.format = EVENT_AS_JSON, .packer = gzip_new()};
    struct client c;
    struct buf got = {0}, want = {0}, plain = {0};
    gzip_put_start(&got, &form.sum, SLICE_LIT(":ok\n"));
    buf_puts(&want, ":ok\n");
    client_start_as(&c, NULL, &form);
    go_live(&c);
    for (uint64_t id = 1000; id < 9000; id += 1000) {
        push(&c, id, "[1, 2, 3, 1, 2, 3, 1, 2, 3]");
        put_envelope(&want, id, "[1, 2, 3, 1, 2, 3, 1, 2, 3]");
    }
    client_close(&c, true);
    client_drain(&c, &got, (size_t)_i);
    inflate_all(&got, &plain);
    ck_assert(slice_eq(buf_slice(&plain), buf_slice(&want)));
    client_reset(&c);
    gzip_free(form.packer);
    buf_reset(&got);
    buf_reset(&want);
    buf_reset(&plain);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("event form");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_data_is_json_where_it_is_json_and_else_text, 0,
                        sizeof(datas) / sizeof(datas[0]));
    tcase_add_test(tests, test_all_other_lines_are_as_ever);
    tcase_add_test(tests, test_an_event_without_an_id_has_the_time_of_its_arrival);
    tcase_add_test(tests, test_the_type_of_one_without_is_its_topic);
    tcase_add_test(tests, test_where_the_node_has_named_it_the_topic_goes);
    tcase_add_test(tests, test_what_makes_no_difference_is_not_made);
    tcase_add_test(tests, test_a_copy_with_an_id_has_the_same_envelope);
    tcase_add_test(tests, test_pieces_of_a_text_are_texts_joined_or_not);
    tcase_add_test(tests, test_threads_that_ask_together_make_each_form_once);
    tcase_add_test(tests, test_what_a_log_has_is_counted_in_no_form);
    tcase_add_loop_test(tests, test_a_stream_of_json_in_pieces, 1, 40);
    tcase_add_loop_test(tests, test_a_compressed_stream_of_json_is_whole, 1, 40);
    return tests_run(tests);
}
