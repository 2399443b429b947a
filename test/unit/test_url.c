/* SPDX-License-Identifier: Apache-2.0 */
/* Percent-decoding: every byte, what is malformed, and the plus sign of forms. */
#include "common/url.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdio.h>
#include <string.h>

static bool decodes(struct slice text, enum url_plus plus, struct slice want)
{
    char room[64];
    struct slice got;
    return url_decode(text, plus, room, &got) == OK && slice_eq(got, want);
}

START_TEST(test_every_byte_in_either_case)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char lower[8], upper[8], want = (char)byte;
        snprintf(lower, sizeof lower, "%%%02x", byte);
        snprintf(upper, sizeof upper, "%%%02X", byte);
        ck_assert(decodes(slice_of(lower), URL_PLUS_IS_PLUS, (struct slice){&want, 1}));
        ck_assert(decodes(slice_of(upper), URL_PLUS_IS_SPACE, (struct slice){&want, 1}));
    }
}
END_TEST

START_TEST(test_what_is_not_encoded_stays)
{
    ck_assert(decodes(SLICE_LIT(""), URL_PLUS_IS_PLUS, SLICE_LIT("")));
    ck_assert(decodes(SLICE_LIT("a\0b/\xC3\xA9"), URL_PLUS_IS_PLUS, SLICE_LIT("a\0b/\xC3\xA9")));
    ck_assert(decodes(SLICE_LIT("%2525%2B+"), URL_PLUS_IS_PLUS, SLICE_LIT("%25++")));
    ck_assert(decodes(SLICE_LIT("%2525%2B+"), URL_PLUS_IS_SPACE, SLICE_LIT("%25+ ")));
}
END_TEST

START_TEST(test_malformed)
{
    static const char *const bad[] = {"%", "%4", "a%4", "%g0", "%0g", "%%41", "% 41", "%+1", "%-1"};
    char room[16];
    struct slice out;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(url_decode(slice_of(bad[i]), URL_PLUS_IS_PLUS, room, &out) == ERR_INVALID,
                      "%s", bad[i]);
        ck_assert_msg(url_decode(slice_of(bad[i]), URL_PLUS_IS_SPACE, room, &out) == ERR_INVALID,
                      "%s", bad[i]);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("url");
    tcase_add_test(tests, test_every_byte_in_either_case);
    tcase_add_test(tests, test_what_is_not_encoded_stays);
    tcase_add_test(tests, test_malformed);
    return tests_run(tests);
}
