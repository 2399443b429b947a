/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base64url.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool is_taken(const char *text, size_t len)
{
    struct buf b = {0};
    bool ok = base64url_decode((struct slice){text, len}, &b) == OK;
    buf_reset(&b);
    return ok;
}

START_TEST(test_known_texts)
{
    /* RFC 4648, 10, without padding; and RFC 7515, C. */
    static const struct {
        const char *bytes, *text;
    } known[] = {{"", ""},
                 {"f", "Zg"},
                 {"fo", "Zm8"},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg"},
                 {"fooba", "Zm9vYmE"},
                 {"\x03\xec\xff\xe0\xc1", "A-z_4ME"}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct buf text = {0}, bytes = {0};
        base64url_put(&text, known[i].bytes, strlen(known[i].bytes));
        ck_assert(slice_is(buf_slice(&text), known[i].text));
        ck_assert_int_eq(base64url_decode(slice_of(known[i].text), &bytes), OK);
        ck_assert(slice_is(buf_slice(&bytes), known[i].bytes));
        buf_reset(&text);
        buf_reset(&bytes);
    }
}
END_TEST

/* So no two texts of a length stand for the same bytes: as many are taken as there are bytes. */
START_TEST(test_one_text_for_each_bytes)
{
    char text[3];
    size_t ones = 0, twos = 0, threes = 0;
    for (size_t i = 0; i < 64; i++) {
        text[0] = alphabet[i];
        ones += is_taken(text, 1);
        for (size_t j = 0; j < 64; j++) {
            text[1] = alphabet[j];
            twos += is_taken(text, 2);
            for (size_t k = 0; k < 64; k++) {
                text[2] = alphabet[k];
                threes += is_taken(text, 3);
            }
        }
    }
    ck_assert_uint_eq(ones, 0);
    ck_assert_uint_eq(twos, 256);
    ck_assert_uint_eq(threes, 65536);
}
END_TEST

START_TEST(test_there_and_back)
{
    for (unsigned i = 0; i < 65536; i++) {
        unsigned char bytes[2] = {(unsigned char)(i >> 8), (unsigned char)i};
        struct buf text = {0}, back = {0};
        base64url_put(&text, bytes, 2);
        ck_assert_int_eq(base64url_decode(buf_slice(&text), &back), OK);
        ck_assert_uint_eq(back.len, 2);
        ck_assert_int_eq(memcmp(back.ptr, bytes, 2), 0);
        buf_reset(&text);
        buf_reset(&back);
    }
}
END_TEST

START_TEST(test_other_bytes_are_refused)
{
    char text[5] = "AAAA";
    for (int place = 0; place < 4; place++) {
        int taken = 0;
        for (int c = 0; c < 256; c++) {
            text[place] = (char)c;
            taken += is_taken(text, 4);
        }
        ck_assert_int_eq(taken, 64);
        text[place] = 'A';
    }
    ck_assert(!is_taken("Zg==", 4));
    ck_assert(!is_taken("Zm8=", 4));
    ck_assert(!is_taken("Zm9vY", 5));
}
END_TEST

START_TEST(test_what_was_there_stays)
{
    struct buf b = {0};
    buf_puts(&b, "x");
    ck_assert_int_eq(base64url_decode(SLICE_LIT("Zm9v"), &b), OK);
    ck_assert_int_eq(base64url_decode(SLICE_LIT("Zm9!"), &b), ERR_INVALID);
    ck_assert(slice_is(buf_slice(&b), "xfoo"));
    buf_reset(&b);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("base64url");
    tcase_add_test(tests, test_known_texts);
    tcase_add_test(tests, test_one_text_for_each_bytes);
    tcase_add_test(tests, test_there_and_back);
    tcase_add_test(tests, test_other_bytes_are_refused);
    tcase_add_test(tests, test_what_was_there_stays);
    return tests_run(tests);
}
