/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/digest.h"
#include "common/base64url.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <string.h>

START_TEST(test_known_digests)
{
    /* FIPS 180-2, B.1 and B.2; and of nothing. */
    struct buf b = {0};
    digest_put_hex(&b, SLICE_LIT("abc"));
    ck_assert(slice_is(buf_slice(&b), "ba7816bf8f01cfea414140de5dae2223"
                                      "b00361a396177a9cb410ff61f20015ad"));
    buf_clear(&b);
    digest_put_hex(&b, SLICE_LIT("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"));
    ck_assert(slice_is(buf_slice(&b), "248d6a61d20638b8e5c026930c3e6039"
                                      "a33ce45964ff2167f6ecedd419db06c1"));
    buf_clear(&b);
    digest_put_hex(&b, SLICE_LIT(""));
    ck_assert(slice_is(buf_slice(&b), "e3b0c44298fc1c149afbf4c8996fb924"
                                      "27ae41e4649b934ca495991b7852b855"));
    ck_assert_uint_eq(b.len, DIGEST_HEX_CHARS);
    buf_reset(&b);
}
END_TEST

START_TEST(test_digests_are_compared_whole)
{
    uint8_t a[DIGEST_BYTES], b[DIGEST_BYTES];
    digest_of(SLICE_LIT("a"), a);
    digest_of(SLICE_LIT("a"), b);
    ck_assert(digest_is_same(a, b));
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        b[i] ^= 1;
        ck_assert(!digest_is_same(a, b));
        b[i] ^= 1;
    }
}
END_TEST

START_TEST(test_random_texts_differ)
{
    struct buf a = {0}, b = {0}, bytes = {0};
    ck_assert_int_eq(digest_put_random(&a, 24), OK);
    ck_assert_int_eq(digest_put_random(&b, 24), OK);
    ck_assert_uint_eq(a.len, 32);
    ck_assert(!slice_eq(buf_slice(&a), buf_slice(&b)));
    ck_assert_int_eq(base64url_decode(buf_slice(&a), &bytes), OK);
    ck_assert_uint_eq(bytes.len, 24);
    buf_reset(&a);
    buf_reset(&b);
    buf_reset(&bytes);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("digest");
    tcase_add_test(tests, test_known_digests);
    tcase_add_test(tests, test_digests_are_compared_whole);
    tcase_add_test(tests, test_random_texts_differ);
    return tests_run(tests);
}
