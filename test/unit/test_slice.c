/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"
#include "common/mem.h"
#include "common/slice.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_absent_is_not_empty)
{
    ck_assert_ptr_null(slice_of(NULL).ptr);
    ck_assert_ptr_nonnull(slice_of("").ptr);
    ck_assert_ptr_null(slice_dup(SLICE_NONE));
    char *copy = slice_dup(SLICE_LIT("a\0b"));
    ck_assert_mem_eq(copy, "a\0b", 4);
    free(copy);
}
END_TEST

START_TEST(test_comparisons_count_bytes)
{
    ck_assert(slice_eq(SLICE_NONE, SLICE_LIT("")));
    ck_assert(slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0b")));
    ck_assert(!slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0c")));
    ck_assert(!slice_is(SLICE_LIT("a\0"), "a"));
    ck_assert(slice_eq_nocase(SLICE_LIT("Content-TYPE"), "content-type"));
    ck_assert(!slice_eq_nocase(SLICE_LIT("@"), "`"));
    ck_assert(slice_has_prefix(SLICE_LIT("abc"), SLICE_LIT("ab")));
    ck_assert(slice_has_prefix(SLICE_LIT("abc"), SLICE_NONE));
    ck_assert(!slice_has_prefix(SLICE_LIT("a"), SLICE_LIT("ab")));
}
END_TEST

START_TEST(test_trim_takes_spaces_and_tabs_off_both_ends)
{
    ck_assert(slice_is(slice_trim(SLICE_LIT(" \t a \tb\t ")), "a \tb"));
    ck_assert(slice_is(slice_trim(SLICE_LIT("a")), "a"));
    ck_assert(slice_is(slice_trim(SLICE_LIT("\n a\r")), "\n a\r"));
    ck_assert_uint_eq(slice_trim(SLICE_LIT(" \t ")).len, 0);
    ck_assert_ptr_nonnull(slice_trim(SLICE_LIT(" \t ")).ptr); /* empty, not absent */
    ck_assert_ptr_null(slice_trim(SLICE_NONE).ptr);
}
END_TEST

START_TEST(test_cut_gives_each_part_and_tells_the_last)
{
    struct slice rest = SLICE_LIT("a,,b,");
    static const char *const parts[] = {"a", "", "b", ""};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_ptr_nonnull(rest.ptr);
        struct slice part = slice_cut(&rest, ',');
        ck_assert_ptr_nonnull(part.ptr);
        ck_assert(slice_is(part, parts[i]));
    }
    ck_assert_ptr_null(rest.ptr);
    ck_assert_ptr_null(slice_cut(&rest, ',').ptr);
    ck_assert_ptr_null(rest.ptr);
    rest = SLICE_LIT("k=a=b");
    ck_assert(slice_is(slice_cut(&rest, '='), "k"));
    ck_assert(slice_is(rest, "a=b"));
    rest = SLICE_LIT("a\0b");
    ck_assert(slice_is(slice_cut(&rest, '\0'), "a"));
    ck_assert(slice_is(rest, "b"));
}
END_TEST

START_TEST(test_control_bytes)
{
    /* Neighbours of all kinds, as bytes are looked at together. */
    static const char around[] = {'a', ' ', '\x21', '\x7e', '\x80', '\xa0', '\xff'};
    char bytes[20];
    for (size_t k = 0; k < sizeof(around); k++)
        for (size_t len = 1; len <= sizeof(bytes); len++)
            for (size_t at = 0; at < len; at++)
                for (int c = 0; c < 256; c++) {
                    memset(bytes, around[k], sizeof(bytes));
                    bytes[at] = (char)c;
                    ck_assert(slice_has_control((struct slice){bytes, len}) ==
                              (c < 0x20 || c == 0x7F));
                }
    ck_assert(!slice_has_control(SLICE_NONE));
    ck_assert(slice_has_control(SLICE_LIT("\t")));
    ck_assert(!slice_has_control(SLICE_LIT("\xC2\x80 \xC2\x9F")));
}
END_TEST

struct utf8_case {
    struct slice bytes;
    const char *decoded; /* one ? for each U+FFFD */
};

/* Tables 3-8 to 3-11 of the Unicode standard, and the edges of each range. */
static const struct utf8_case utf8_cases[] = {
    {SLICE_LIT(""), ""},
    {SLICE_LIT("plain text, longer than a word"), "plain text, longer than a word"},
    {SLICE_LIT("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
    {SLICE_LIT("\x7F\xC2\x80\xDF\xBF"), "\x7F\xC2\x80\xDF\xBF"},
    {SLICE_LIT("\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"),
     "\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"},
    {SLICE_LIT("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"), "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
    {SLICE_LIT("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "????????A"},
    {SLICE_LIT("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "????????A"},
    {SLICE_LIT("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "?????A??B"},
    {SLICE_LIT("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "????A"},
    {SLICE_LIT("\xF5\x80\xC1\xBF"), "????"},
    {SLICE_LIT("12345678\xC3"), "12345678?"},
    {SLICE_LIT("1234567\xC3\xA9"), "1234567\xC3\xA9"},
    {SLICE_LIT("\xF0\x9F\x98"), "?"},
};

START_TEST(test_utf8_as_browsers_decode_it)
{
    const struct utf8_case *c = &utf8_cases[_i];
    struct buf want = {0}, got = {0};
    bool valid = true;
    for (const char *p = c->decoded; *p != '\0'; p++) {
        if (*p == '?') {
            buf_puts(&want, "\xEF\xBF\xBD");
            valid = false;
        } else {
            buf_putc(&want, *p);
        }
    }
    buf_put_utf8(&got, c->bytes);
    ck_assert(slice_eq(buf_slice(&got), buf_slice(&want)));
    ck_assert(slice_utf8_valid(c->bytes) == valid);
    buf_reset(&want);
    buf_reset(&got);
}
END_TEST

START_TEST(test_numbers_are_exact)
{
    uint64_t n = 7;
    ck_assert(slice_u64(SLICE_LIT("0"), 9, &n) == OK && n == 0);
    ck_assert(slice_u64(SLICE_LIT("18446744073709551615"), UINT64_MAX, &n) == OK);
    ck_assert_uint_eq(n, UINT64_MAX);
    ck_assert(slice_u64(SLICE_LIT("9007199254740991"), 9007199254740991, &n) == OK);
    n = 7;
    static const char *const bad[] = {"", " 1", "1 ", "+1", "-1", "01", "00", "1a", "0x1", "1.0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(slice_u64(slice_of(bad[i]), UINT64_MAX, &n), ERR_INVALID);
    ck_assert_int_eq(slice_u64(SLICE_LIT("1\0"), 9, &n), ERR_INVALID);
    ck_assert_int_eq(slice_u64(SLICE_NONE, 9, &n), ERR_INVALID);
    ck_assert_int_eq(slice_u64(SLICE_LIT("10"), 9, &n), ERR_RANGE);
    ck_assert_int_eq(slice_u64(SLICE_LIT("18446744073709551616"), UINT64_MAX, &n), ERR_RANGE);
    ck_assert_int_eq(slice_u64(SLICE_LIT("99999999999999999999999"), UINT64_MAX, &n), ERR_RANGE);
    ck_assert_int_eq(slice_u64(SLICE_LIT("99999999999999999999999x"), UINT64_MAX, &n), ERR_INVALID);
    ck_assert_uint_eq(n, 7);
}
END_TEST

START_TEST(test_durations)
{
    uint64_t ms = 7;
    ck_assert(slice_duration_ms(SLICE_LIT("0"), &ms) == OK && ms == 0);
    ck_assert(slice_duration_ms(SLICE_LIT("250ms"), &ms) == OK && ms == 250);
    ck_assert(slice_duration_ms(SLICE_LIT("15s"), &ms) == OK && ms == 15000);
    ck_assert(slice_duration_ms(SLICE_LIT("10m"), &ms) == OK && ms == 600000);
    ck_assert(slice_duration_ms(SLICE_LIT("1h"), &ms) == OK && ms == 3600000);
    ck_assert(slice_duration_ms(SLICE_LIT("7d"), &ms) == OK && ms == 604800000);
    ck_assert(slice_duration_ms(SLICE_LIT("0s"), &ms) == OK && ms == 0);
    static const char *const bad[] = {"", "15", "s", "1.5s", "-1s", "15S", "15 s", "1h30m", "00"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(slice_duration_ms(slice_of(bad[i]), &ms), ERR_INVALID);
    ck_assert_int_eq(slice_duration_ms(SLICE_LIT("18446744073709551615d"), &ms), ERR_RANGE);
}
END_TEST

START_TEST(test_sizes)
{
    uint64_t bytes = 7;
    ck_assert(slice_size(SLICE_LIT("0"), &bytes) == OK && bytes == 0);
    ck_assert(slice_size(SLICE_LIT("4096"), &bytes) == OK && bytes == 4096);
    ck_assert(slice_size(SLICE_LIT("64KB"), &bytes) == OK && bytes == 65536);
    ck_assert(slice_size(SLICE_LIT("1MB"), &bytes) == OK && bytes == 1048576);
    ck_assert(slice_size(SLICE_LIT("2GB"), &bytes) == OK && bytes == UINT64_C(2147483648));
    static const char *const bad[] = {"", "KB", "1K", "1kb", "1 KB", "1.5MB", "-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_int_eq(slice_size(slice_of(bad[i]), &bytes), ERR_INVALID);
    ck_assert_int_eq(slice_size(SLICE_LIT("18446744073709551615GB"), &bytes), ERR_RANGE);
}
END_TEST

START_TEST(test_buffer_grows_and_is_taken)
{
    struct buf b = {0};
    ck_assert(slice_eq(buf_slice(&b), SLICE_LIT("")));
    ck_assert_ptr_nonnull(buf_slice(&b).ptr);
    buf_puts(&b, "ids ");
    buf_put_u64(&b, 0);
    buf_putc(&b, ' ');
    buf_put_u64(&b, UINT64_MAX);
    buf_printf(&b, " %s%d", "x", -5);
    buf_put_slice(&b, SLICE_NONE);
    buf_put_slice(&b, SLICE_LIT("\0!"));
    size_t len;
    char *text = buf_take(&b, &len);
    ck_assert(slice_eq((struct slice){text, len}, SLICE_LIT("ids 0 18446744073709551615 x-5\0!")));
    ck_assert_int_eq(text[len], '\0');
    free(text);
    ck_assert_ptr_null(b.ptr);
    for (int i = 0; i < 100000; i++)
        buf_putc(&b, 'x');
    ck_assert_uint_eq(b.len, 100000);
    buf_clear(&b);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_uint_ge(b.cap, 100000);
    buf_reset(&b);
}
END_TEST

START_TEST(test_memory_of_no_bytes_and_of_one_more)
{
    void *none = mem_alloc(0);
    void *zero = mem_zero(0, 8);
    ck_assert_ptr_nonnull(none);
    ck_assert_ptr_nonnull(zero);
    none = mem_resize(none, 0);
    ck_assert_ptr_nonnull(none);
    free(none);
    uint16_t *items = NULL;
    for (uint16_t i = 0; i < 1000; i++) {
        items = mem_grow(items, i, sizeof *items);
        items[i] = i;
    }
    for (uint16_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(items[i], i);
    free(items);
    free(zero);
    for (int e = OK; e <= ERR_DENIED + 1; e++)
        ck_assert_ptr_nonnull(err_text((enum err)e));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("slice");
    tcase_add_test(tests, test_absent_is_not_empty);
    tcase_add_test(tests, test_comparisons_count_bytes);
    tcase_add_loop_test(tests, test_utf8_as_browsers_decode_it, 0,
                        (int)(sizeof utf8_cases / sizeof *utf8_cases));
    tcase_add_test(tests, test_trim_takes_spaces_and_tabs_off_both_ends);
    tcase_add_test(tests, test_cut_gives_each_part_and_tells_the_last);
    tcase_add_test(tests, test_control_bytes);
    tcase_add_test(tests, test_numbers_are_exact);
    tcase_add_test(tests, test_durations);
    tcase_add_test(tests, test_sizes);
    tcase_add_test(tests, test_buffer_grows_and_is_taken);
    tcase_add_test(tests, test_memory_of_no_bytes_and_of_one_more);
    return tests_run(tests);
}
