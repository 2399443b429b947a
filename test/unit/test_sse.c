/* SPDX-License-Identifier: Apache-2.0 */
#include "common/event.h"
#include "common/sse.h"
#include "test/unit/rng.h"
#include "test/unit/vectors.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <string.h>

#define FFFD "\xEF\xBF\xBD"

static struct event_fields fields_of(uint64_t id, struct slice type, struct slice data)
{
    return (struct event_fields){.id = id, .retry_ms = -1, .type = type, .data = data};
}

static void expect_frame(const struct event_fields *fields, struct slice want, const char *name)
{
    struct buf b = {0};
    sse_put_frame(&b, fields);
    ck_assert_msg(slice_eq(buf_slice(&b), want), "%s: got %.*s", name, (int)b.len, b.ptr);
    buf_reset(&b);
    struct event *ev = event_new(fields, 1);
    ck_assert_msg(slice_eq(event_frame(ev), want), "%s", name);
    event_unref(ev);
}

static void expect_data(struct slice data, const char *want)
{
    struct event_fields fields = fields_of(0, SLICE_NONE, data);
    expect_frame(&fields, slice_of(want), want);
}

static void run_vector(const cJSON *vector)
{
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(vector, "event");
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(event, "id");
    const cJSON *retry = cJSON_GetObjectItemCaseSensitive(event, "retry");
    struct slice type = vectors_text(cJSON_GetObjectItemCaseSensitive(event, "event"));
    struct slice data = vectors_text(cJSON_GetObjectItemCaseSensitive(event, "data"));
    struct slice wire = vectors_text(cJSON_GetObjectItemCaseSensitive(vector, "wire"));
    struct event_fields fields = fields_of(0, type, data);
    if (id != NULL)
        ck_assert(slice_u64(slice_of(id->valuestring), EVENT_ID_MAX, &fields.id) == OK);
    if (retry != NULL)
        fields.retry_ms = (int64_t)retry->valuedouble;
    expect_frame(&fields, wire, cJSON_GetObjectItemCaseSensitive(vector, "name")->valuestring);
    free((void *)type.ptr);
    free((void *)data.ptr);
    free((void *)wire.ptr);
}

START_TEST(test_frames_of_the_contract)
{
    cJSON *vectors = vectors_load("frames.json");
    const cJSON *vector;
    ck_assert_int_ge(cJSON_GetArraySize(vectors), 18);
    cJSON_ArrayForEach(vector, vectors) run_vector(vector);
    cJSON_Delete(vectors);
}
END_TEST

START_TEST(test_line_ends_at_every_offset)
{
    /* The scan goes by words: a break, or a tab that looks like one, must be seen wherever it
     * stands. */
    static const struct {
        struct slice text, wire;
    } breaks[] = {
        {SLICE_LIT("\n"), SLICE_LIT("\ndata: ")},
        {SLICE_LIT("\r"), SLICE_LIT("\ndata: ")},
        {SLICE_LIT("\r\n"), SLICE_LIT("\ndata: ")},
        {SLICE_LIT("\n\r"), SLICE_LIT("\ndata: \ndata: ")},
        {SLICE_LIT("\0"), SLICE_LIT("")},
        {SLICE_LIT("\t"), SLICE_LIT("\t")},
        {SLICE_LIT("\x0B\x0C\x0E\x01"), SLICE_LIT("\x0B\x0C\x0E\x01")},
        {SLICE_LIT("\xFF"), SLICE_LIT(FFFD)},
        {SLICE_LIT("\xC2\x85\xE2\x80\xA8"), SLICE_LIT("\xC2\x85\xE2\x80\xA8")},
        {SLICE_LIT("\r\0\n"), SLICE_LIT("\ndata: \ndata: ")},
    };
    for (size_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
        for (size_t before = 0; before < 20; before++) {
            for (size_t after = 0; after < 20; after++) {
                struct buf data = {0}, wire = {0};
                const char *fill = "abcdefghijklmnopqrst";
                buf_put(&data, fill, before);
                buf_put_slice(&data, breaks[i].text);
                buf_put(&data, fill, after);
                buf_puts(&wire, "data: ");
                buf_put(&wire, fill, before);
                buf_put_slice(&wire, breaks[i].wire);
                buf_put(&wire, fill, after);
                buf_puts(&wire, "\n\n");
                struct event_fields fields = fields_of(0, SLICE_NONE, buf_slice(&data));
                expect_frame(&fields, buf_slice(&wire), "offsets");
                buf_reset(&data);
                buf_reset(&wire);
            }
        }
    }
}
END_TEST

START_TEST(test_bad_utf8_becomes_replacement_characters)
{
    expect_data(SLICE_LIT("a\xFF"
                          "b"),
                "data: a" FFFD "b\n\n");
    expect_data(SLICE_LIT("\xF0\x9F\x98"), "data: " FFFD "\n\n");
    expect_data(SLICE_LIT("\xF0\x9F\n\x98\x80"), "data: " FFFD "\ndata: " FFFD FFFD "\n\n");
    expect_data(SLICE_LIT("\xC3\0\xA9"), "data: " FFFD FFFD "\n\n");
    expect_data(SLICE_LIT("\xED\xA0\x80"), "data: " FFFD FFFD FFFD "\n\n");
    struct event_fields fields = fields_of(0, SLICE_LIT("t\xC3"), SLICE_LIT(""));
    expect_frame(&fields, SLICE_LIT("event: t" FFFD "\ndata: \n\n"), "type");
}
END_TEST

START_TEST(test_absent_data_is_empty)
{
    expect_data(SLICE_NONE, "data: \n\n");
    expect_data(SLICE_LIT("\0\0"), "data: \n\n");
}
END_TEST

START_TEST(test_type_cannot_break_out)
{
    struct event_fields fields = fields_of(9, SLICE_LIT("\r\n\0"), SLICE_LIT("x"));
    expect_frame(&fields, SLICE_LIT("id: 9\ndata: x\n\n"), "nothing left");
    fields.type = SLICE_LIT("\n a\r\ndata: y\0\n");
    expect_frame(&fields, SLICE_LIT("id: 9\nevent:  adata: y\ndata: x\n\n"), "injection");
}
END_TEST

START_TEST(test_numbers_at_their_limits)
{
    struct event_fields fields = fields_of(EVENT_ID_MAX, SLICE_NONE, SLICE_LIT("x"));
    fields.retry_ms = 0;
    expect_frame(&fields, SLICE_LIT("id: 9007199254740991\nretry: 0\ndata: x\n\n"), "limits");
}
END_TEST

/* Data of @size bytes: lines of @line bytes, or none when 0. */
static void check_big(size_t size, size_t line)
{
    struct buf data = {0}, wire = {0};
    buf_puts(&wire, "id: 1\ndata: ");
    for (size_t i = 0; i < size; i++) {
        bool end = line > 0 && i % line == line - 1;
        buf_putc(&data, end ? '\n' : 'x');
        if (end)
            buf_puts(&wire, "\ndata: ");
        else
            buf_putc(&wire, 'x');
    }
    buf_puts(&wire, "\n\n");
    struct event_fields fields = fields_of(1, SLICE_NONE, buf_slice(&data));
    expect_frame(&fields, buf_slice(&wire), "big");
    buf_reset(&data);
    buf_reset(&wire);
}

START_TEST(test_a_megabyte)
{
    check_big(1 << 20, 0);
    check_big(1 << 20, 1);
    check_big(1 << 20, 80);
}
END_TEST

/* What an EventSource makes of a frame (WHATWG HTML, 9.2.6), for the fields we write. */
static void parse_data(struct slice frame, struct buf *data)
{
    bool first = true;
    while (frame.len > 0) {
        const char *end = memchr(frame.ptr, '\n', frame.len);
        ck_assert_ptr_nonnull(end);
        struct slice line = {frame.ptr, (size_t)(end - frame.ptr)};
        frame = (struct slice){end + 1, frame.len - line.len - 1};
        if (!slice_has_prefix(line, SLICE_LIT("data: "))) {
            ck_assert(line.len == 0 && frame.len == 0);
            continue;
        }
        if (!first)
            buf_putc(data, '\n');
        first = false;
        buf_put(data, line.ptr + 6, line.len - 6);
    }
}

START_TEST(test_random_data_arrives)
{
    struct rng rng = rng_seeded("sse");
    static const char alphabet[] = "\n\r\0ab\t \xC3\xA9\xFF:";
    for (int round = 0; round < 20000; round++) {
        char bytes[64];
        struct buf plain = {0}, want = {0}, got = {0};
        size_t len = rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = alphabet[rng_below(&rng, sizeof alphabet - 1)];
        struct event_fields fields = fields_of(0, SLICE_NONE, (struct slice){bytes, len});
        struct event *ev = event_new(&fields, 0);
        parse_data(event_frame(ev), &got);
        /* The naive way: decode, drop NUL, make all line ends LF. */
        buf_put_utf8(&plain, fields.data);
        for (size_t i = 0; i < plain.len; i++) {
            if (plain.ptr[i] == '\r')
                buf_putc(&want, '\n');
            else if (plain.ptr[i] != '\0' &&
                     !(plain.ptr[i] == '\n' && i > 0 && plain.ptr[i - 1] == '\r'))
                buf_putc(&want, plain.ptr[i]);
        }
        ck_assert(slice_eq(buf_slice(&got), buf_slice(&want)));
        event_unref(ev);
        buf_reset(&plain);
        buf_reset(&want);
        buf_reset(&got);
    }
}
END_TEST

START_TEST(test_control_events)
{
    struct buf b = {0};
    sse_put_control(&b, 0, "relay.", "dropped", SLICE_LIT("{\"count\":3}"));
    sse_put_control(&b, 7, "x-", "gap", SLICE_LIT("{}"));
    sse_put_position(&b, 8);
    ck_assert(slice_is(buf_slice(&b), "event: relay.dropped\ndata: {\"count\":3}\n\n"
                                      "id: 7\nevent: x-gap\ndata: {}\n\nid: 8\n\n"));
    buf_reset(&b);
}
END_TEST

START_TEST(test_event_keeps_copies)
{
    char ns[] = "shop", topic[] = "a.b", type[] = "x\ny", data[] = "hi",
         match[] = "u\0"
                   "42\0";
    struct event_fields fields = {.id = 5,
                                  .retry_ms = -1,
                                  .has_match = true,
                                  .match = {match, sizeof(match)},
                                  .ns = slice_of(ns),
                                  .topic = slice_of(topic),
                                  .type = slice_of(type),
                                  .data = slice_of(data)};
    struct event *ev = event_new(&fields, 99);
    memset(ns, 'Z', 4);
    memset(topic, 'Z', 3);
    memset(type, 'Z', 3);
    memset(data, 'Z', 2);
    memset(match, 'Z', sizeof(match));
    ck_assert_ptr_eq(event_ref(ev), ev);
    event_unref(ev);
    ck_assert_uint_eq(event_id(ev), 5);
    ck_assert_uint_eq(event_arrival_us(ev), 99);
    ck_assert(event_has_match(ev) && memcmp(event_match(ev),
                                            "u\0"
                                            "42\0",
                                            sizeof(match)) == 0);
    ck_assert(slice_is(event_ns(ev), "shop"));
    ck_assert(slice_is(event_topic(ev), "a.b"));
    ck_assert(slice_is(event_type(ev), "xy"));
    ck_assert(slice_is(event_frame(ev), "id: 5\nevent: xy\ndata: hi\n\n"));
    event_unref(ev);
    event_unref(NULL);
}
END_TEST

START_TEST(test_event_without_type_or_fields)
{
    struct event_fields fields = fields_of(0, SLICE_LIT("\n"), SLICE_LIT("x"));
    struct event *ev = event_new(&fields, 0);
    ck_assert_ptr_null(event_type(ev).ptr);
    ck_assert(!event_has_match(ev) && !event_match(ev));
    event_unref(ev);
    ev = event_new_frame(3, SLICE_LIT("id: 3\n\n"));
    ck_assert_uint_eq(event_id(ev), 3);
    ck_assert_ptr_null(event_type(ev).ptr);
    ck_assert_ptr_null(event_topic(ev).ptr);
    ck_assert_uint_eq(event_arrival_us(ev), 0);
    ck_assert(slice_is(event_frame(ev), "id: 3\n\n"));
    event_unref(ev);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("sse");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_frames_of_the_contract);
    tcase_add_test(tests, test_line_ends_at_every_offset);
    tcase_add_test(tests, test_bad_utf8_becomes_replacement_characters);
    tcase_add_test(tests, test_absent_data_is_empty);
    tcase_add_test(tests, test_type_cannot_break_out);
    tcase_add_test(tests, test_numbers_at_their_limits);
    tcase_add_test(tests, test_a_megabyte);
    tcase_add_test(tests, test_random_data_arrives);
    tcase_add_test(tests, test_control_events);
    tcase_add_test(tests, test_event_keeps_copies);
    tcase_add_test(tests, test_event_without_type_or_fields);
    return tests_run(tests);
}
