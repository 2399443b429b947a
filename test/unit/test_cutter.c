/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies cut into events: each text as a whole, cut at every place, and byte by byte, gives the
 * same; and every bound is reached. */
#include <check.h>
#include <string.h>

#include "relay/core/cutter.h"
#include "test/unit/tests_run.h"

enum { MAX_BYTES = 64 };

/* What came out, one after the other: "type|data;" each. Of chunks only the text. */
static struct buf said;
static struct cutter cutter;
static enum err last;

static void setup(void)
{
    said = (struct buf){0};
}

static void teardown(void)
{
    buf_reset(&said);
    cutter_reset(&cutter);
}

static void say(const struct cut *cut)
{
    if (cutter.kind == CUTTER_SSE) {
        buf_put_slice(&said, cut->type.ptr ? cut->type : SLICE_LIT("-"));
        buf_putc(&said, '|');
    }
    ck_assert_ptr_nonnull(cut->data.ptr);
    ck_assert_uint_le(cut->data.len, MAX_BYTES);
    ck_assert(cutter.kind != CUTTER_CHUNKS || slice_utf8_valid(cut->data));
    buf_put_slice(&said, cut->data);
    if (cutter.kind != CUTTER_CHUNKS)
        buf_putc(&said, ';');
}

static void feed(struct slice piece)
{
    struct cut cut;
    while ((last = cutter_next(&cutter, &piece, &cut)) == OK)
        say(&cut);
    ck_assert(last != ERR_AGAIN || piece.len == 0);
    if (last == ERR_AGAIN)
        ck_assert_uint_le(cutter_bytes(&cutter), MAX_BYTES + SSE_PARSER_TYPE_MAX + 1);
}

static void begin(enum cutter_kind kind)
{
    cutter_reset(&cutter);
    cutter_init(&cutter, kind, MAX_BYTES);
    buf_clear(&said);
    last = ERR_AGAIN;
}

static void end(void)
{
    struct cut cut;
    if (last != ERR_AGAIN)
        return;
    last = cutter_end(&cutter, &cut);
    if (last == OK)
        say(&cut);
}

static void check(struct slice text, size_t at, const char *want, enum err ends)
{
    ck_assert_msg(slice_is(buf_slice(&said), want), "%.*s cut at %zu gives %.*s, not %s",
                  (int)text.len, text.ptr, at, (int)said.len, said.ptr ? said.ptr : "", want);
    ck_assert_msg(last == ends, "%.*s cut at %zu ends with %s", (int)text.len, text.ptr, at,
                  err_text(last));
}

/* However @text is cut it gives @want, and its end @ends. */
static void expect(enum cutter_kind kind, struct slice text, const char *want, enum err ends)
{
    for (size_t at = 0; at <= text.len; at++) {
        struct slice head = {text.ptr, at}, tail = {text.ptr + at, text.len - at};
        begin(kind);
        feed(head);
        if (last == ERR_AGAIN)
            feed(tail);
        end();
        check(text, at, want, ends);
    }
    begin(kind);
    for (size_t i = 0; i < text.len && last == ERR_AGAIN; i++)
        feed((struct slice){text.ptr + i, 1});
    end();
    check(text, text.len + 1, want, ends);
}

static void expect_sse(const char *text, const char *want)
{
    expect(CUTTER_SSE, slice_of(text), want, ERR_NOT_FOUND);
}

static void expect_lines(const char *text, const char *want, enum err ends)
{
    expect(CUTTER_LINES, slice_of(text), want, ends);
}

/* --- text/event-stream ------------------------------------------------------------------------ */

START_TEST(test_a_block_is_an_event_with_its_type)
{
    expect_sse("", "");
    expect_sse("data: a\n\n", "-|a;");
    expect_sse("event: delta\ndata: {\"x\":1}\n\ndata: [DONE]\n\n", "delta|{\"x\":1};-|[DONE];");
    expect_sse("event: a\nevent: b\ndata: 1\n\ndata: 2\n\n", "b|1;-|2;");
    expect_sse("event: a\nevent\ndata: 1\n\n", "-|1;");
    expect_sse("event: a\nevent:\ndata: 1\n\n", "-|1;");
}
END_TEST

START_TEST(test_ids_retries_comments_and_what_nobody_knows_are_passed_over)
{
    expect_sse(":ok\nid: 7\nretry: 5\ndatabase: x\nDATA: y\ndat: z\n data: s\ndata: a\nfoo\n\n",
               "-|a;");
    expect_sse(": ping\n\n:\n\n", "");
    expect_sse("event: x\n\ndata: a\n\n", "-|a;");
    expect_sse("id: 9\n\n", "");
}
END_TEST

START_TEST(test_one_space_behind_the_colon_is_none_of_the_value)
{
    expect_sse("data:a\n\ndata:  b\n\ndata: c \n\nevent:  e\ndata:::\n\n", "-|a;-| b;-|c ; e|::;");
}
END_TEST

START_TEST(test_every_end_of_line)
{
    expect_sse("data: a\r\rdata: b\r\n\r\ndata: c\n\n", "-|a;-|b;-|c;");
    expect_sse("data: a\r\ndata: b\rdata: c\n\r\n", "-|a\nb\nc;");
    expect_sse("data: a\n\r", "-|a;");
    expect_sse("\r\n\n\r\rdata: a\r\n\n", "-|a;");
}
END_TEST

START_TEST(test_data_that_is_empty_is_data_and_none_is_no_event)
{
    expect_sse("data\n\n", "-|;");
    expect_sse("data:\n\n", "-|;");
    expect_sse("data:\ndata\n\n", "-|\n;");
    expect_sse("data\ndata: a\ndata:\n\n", "-|\na\n;");
    expect_sse("event: e\nid: 1\n\n\n\n", "");
}
END_TEST

START_TEST(test_a_byte_order_mark_is_passed_over_once)
{
    expect_sse("\xEF\xBB\xBF"
               "data: a\n\n\xEF\xBB\xBF"
               "data: b\n\n",
               "-|a;");
    expect_sse("\xEF\xBB"
               "data: a\n\ndata: b\n\n",
               "-|b;");
    expect_sse("\xEF\xBB\xBF\xEF\xBB\xBF"
               "data: a\n\n",
               "");
    expect_sse("\xEF\xBB\xBF", "");
    expect_sse("\xEF\n\ndata: b\n\n", "-|b;");
}
END_TEST

START_TEST(test_a_block_that_the_end_cuts_off_is_none)
{
    expect_sse("data: a\n\ndata: b", "-|a;");
    expect_sse("data: a\n\ndata: b\n", "-|a;");
    expect_sse("data: a\n\nevent: b\n", "-|a;");
}
END_TEST

START_TEST(test_nul_and_other_bytes_are_left_to_others)
{
    static const char text[] = "data: a\0b\xFF\n\n";
    begin(CUTTER_SSE);
    feed((struct slice){text, sizeof text - 1});
    ck_assert_uint_eq(said.len, 7);
    ck_assert(memcmp(said.ptr, "-|a\0b\xFF;", 7) == 0);
}
END_TEST

static struct slice repeat(struct buf *b, const char *head, char c, size_t count, const char *tail)
{
    buf_clear(b);
    buf_puts(b, head);
    for (size_t i = 0; i < count; i++)
        buf_putc(b, c);
    buf_puts(b, tail);
    return buf_slice(b);
}

static void expect_bound(enum cutter_kind kind, const char *head, size_t fits, const char *tail,
                         enum err ends)
{
    struct buf text = {0};
    size_t pieces[] = {1, 7, 4096};
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++)
        for (size_t over = 0; over < 2; over++) {
            struct slice all = repeat(&text, head, 'x', fits + over, tail);
            begin(kind);
            while (all.len && last == ERR_AGAIN) {
                size_t n = all.len < pieces[p] ? all.len : pieces[p];
                feed((struct slice){all.ptr, n});
                all = (struct slice){all.ptr + n, all.len - n};
            }
            end();
            ck_assert_int_eq(last, over ? ERR_RANGE : ends);
            ck_assert_uint_eq(said.len > 0, !over);
        }
    buf_reset(&text);
}

START_TEST(test_an_event_that_is_too_large_is_told_before_its_end)
{
    expect_bound(CUTTER_SSE, "data: ", MAX_BYTES, "\n\n", ERR_NOT_FOUND);
    expect_bound(CUTTER_SSE, "data: a\ndata:", MAX_BYTES - 2, "\n\n", ERR_NOT_FOUND);
    expect_bound(CUTTER_LINES, "", MAX_BYTES, "\n", ERR_NOT_FOUND);
    expect_bound(CUTTER_LINES, "", MAX_BYTES, "\r\n", ERR_NOT_FOUND);
    expect_bound(CUTTER_LINES, "", MAX_BYTES, "", OK);
}
END_TEST

START_TEST(test_what_is_passed_over_may_be_as_long_as_it_likes)
{
    struct buf text = {0};
    static const char *const heads[] = {":", "id: ", "xxxxxxxxx"};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        begin(CUTTER_SSE);
        feed(repeat(&text, heads[i], 'x', 100000, "\ndata: a\n\n"));
        ck_assert(slice_is(buf_slice(&said), "-|a;"));
    }
    begin(CUTTER_SSE);
    feed(repeat(&text, "event: ", 'e', 100000, "\ndata: a\n\n"));
    ck_assert_uint_eq(said.len, SSE_PARSER_TYPE_MAX + 3); /* cut: too long for any publish */
    buf_reset(&text);
}
END_TEST

/* --- lines ------------------------------------------------------------------------------------ */

START_TEST(test_a_line_is_an_event)
{
    expect_lines("{\"a\":1}\n{\"a\":2}\n", "{\"a\":1};{\"a\":2};", ERR_NOT_FOUND);
    expect_lines("a\r\nb\r\n", "a;b;", ERR_NOT_FOUND);
    expect_lines("a\rb\n", "a\rb;", ERR_NOT_FOUND);
    expect_lines("\n\r\na\n\n\n", "a;", ERR_NOT_FOUND);
    expect_lines("", "", ERR_NOT_FOUND);
    expect_lines("a\nlast", "a;last;", OK);
    expect_lines("a\nlast\r", "a;last;", OK);
    expect_lines("a\n\r", "a;", ERR_NOT_FOUND);
    expect_lines(" \n", " ;", ERR_NOT_FOUND);
}
END_TEST

/* --- chunks ----------------------------------------------------------------------------------- */

static void expect_chunks(const char *text, const char *want, enum err ends)
{
    expect(CUTTER_CHUNKS, slice_of(text), want, ends);
}

START_TEST(test_no_character_is_cut)
{
    expect_chunks("", "", ERR_NOT_FOUND);
    expect_chunks("abc", "abc", ERR_NOT_FOUND);
    expect_chunks("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z\xF4\x8F\xBF\xBF",
                  "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z\xF4\x8F\xBF\xBF", ERR_NOT_FOUND);
}
END_TEST

START_TEST(test_each_piece_is_an_event)
{
    struct slice piece = SLICE_LIT("a\xE2\x82");
    struct cut cut;
    begin(CUTTER_CHUNKS);
    ck_assert_int_eq(cutter_next(&cutter, &piece, &cut), OK);
    ck_assert(slice_is(cut.data, "a") && piece.len == 0);
    ck_assert_int_eq(cutter_next(&cutter, &piece, &cut), ERR_AGAIN);
    ck_assert_uint_eq(cutter_bytes(&cutter), 2);
    piece = SLICE_LIT("\xAC"
                      "b\xC3");
    ck_assert_int_eq(cutter_next(&cutter, &piece, &cut), OK);
    ck_assert(slice_is(cut.data, "\xE2\x82\xAC"
                                 "b") &&
              piece.len == 0);
    piece = SLICE_LIT("\xA4");
    ck_assert_int_eq(cutter_next(&cutter, &piece, &cut), OK);
    ck_assert(slice_is(cut.data, "\xC3\xA4"));
    ck_assert_int_eq(cutter_end(&cutter, &cut), ERR_NOT_FOUND);
}
END_TEST

START_TEST(test_a_large_piece_is_cut_between_characters)
{
    struct buf text = {0};
    for (int i = 0; i < 1000; i++)
        buf_puts(&text, "\xE2\x82\xAC");
    begin(CUTTER_CHUNKS);
    feed((struct slice){"\xE2", 1});
    feed((struct slice){text.ptr + 1, text.len - 1});
    end();
    ck_assert_int_eq(last, ERR_NOT_FOUND);
    ck_assert(slice_eq(buf_slice(&said), buf_slice(&text)));
    buf_reset(&text);
}
END_TEST

START_TEST(test_what_is_no_text_is_refused)
{
    static const char *const bad[] = {"\xFF",     "\x80",         "\xC0\xAF",
                                      "\xE2\x28", "\xED\xA0\x80", "\xF5\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect(CUTTER_CHUNKS, slice_of(bad[i]), "", ERR_INVALID);
    expect(CUTTER_CHUNKS, SLICE_LIT("\xE2\x82"), "", ERR_INVALID);
    expect(CUTTER_CHUNKS, SLICE_LIT("\xF0\x9F\x98"), "", ERR_INVALID);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("cutter");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_a_block_is_an_event_with_its_type);
    tcase_add_test(tests, test_ids_retries_comments_and_what_nobody_knows_are_passed_over);
    tcase_add_test(tests, test_one_space_behind_the_colon_is_none_of_the_value);
    tcase_add_test(tests, test_every_end_of_line);
    tcase_add_test(tests, test_data_that_is_empty_is_data_and_none_is_no_event);
    tcase_add_test(tests, test_a_byte_order_mark_is_passed_over_once);
    tcase_add_test(tests, test_a_block_that_the_end_cuts_off_is_none);
    tcase_add_test(tests, test_nul_and_other_bytes_are_left_to_others);
    tcase_add_test(tests, test_an_event_that_is_too_large_is_told_before_its_end);
    tcase_add_test(tests, test_what_is_passed_over_may_be_as_long_as_it_likes);
    tcase_add_test(tests, test_a_line_is_an_event);
    tcase_add_test(tests, test_no_character_is_cut);
    tcase_add_test(tests, test_each_piece_is_an_event);
    tcase_add_test(tests, test_a_large_piece_is_cut_between_characters);
    tcase_add_test(tests, test_what_is_no_text_is_refused);
    return tests_run(tests);
}
