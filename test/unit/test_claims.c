/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json_pointer.h"
#include "relay/auth/claims.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <string.h>

#define NOW UINT64_C(1800000000)

static const struct claims_wanted usual = {
    .iss = "I", .aud = "A", .now_s = NOW, .leeway_s = 30, .max_life_s = 1000};

static const char *check(const char *claims, const struct claims_wanted *wanted)
{
    cJSON *tree;
    ck_assert_msg(json_parse(slice_of(claims), &tree) == OK, "%s", claims);
    const char *why = claims_check(tree, wanted);
    cJSON_Delete(tree);
    return why;
}

static void expect(const char *claims, const struct claims_wanted *wanted, const char *expected)
{
    const char *why = check(claims, wanted);
    ck_assert_msg(why == expected || (why && expected && strcmp(why, expected) == 0), "%s: %s",
                  claims, why ? why : "accepted");
}

/* --- times ------------------------------------------------------------------------------------ */

static const struct {
    const char *times, *why;
} times[] = {
    {"\"exp\":1800000001", NULL},
    {"\"exp\":1799999971", NULL}, /* within the leeway */
    {"\"exp\":1799999970", "it has expired"},
    {"\"exp\":1799999970.9", "it has expired"},
    {"\"exp\":1799999971.5", NULL},
    {"\"exp\":18e8", NULL},
    {"\"exp\":0", "it has expired"},
    {"\"exp\":1800001030", NULL},
    {"\"exp\":1800001031", "its exp is further ahead than auth.max_token_life"},
    {"\"exp\":1800000001000", "its exp is further ahead than auth.max_token_life"},
    {"\"exp\":9007199254740992", "its exp is further ahead than auth.max_token_life"},
    {"\"exp\":9007199254740994", "its exp is no time"},
    {"\"exp\":1e400", "its exp is no time"},
    {"\"exp\":-1", "its exp is no time"},
    {"\"exp\":-1e400", "its exp is no time"},
    {"\"exp\":\"1800000001\"", "its exp is no time"},
    {"\"exp\":true", "its exp is no time"},
    {"\"exp\":null", "its exp is no time"},
    {"\"exp\":[1800000001]", "its exp is no time"},
    {"\"Exp\":1800000001", "it has no exp"},
    {"\"x\":1", "it has no exp"},
    {"\"exp\":1800000001,\"nbf\":1800000030", NULL},
    {"\"exp\":1800000001,\"nbf\":1800000031", "it is not valid yet (nbf)"},
    {"\"exp\":1800000001,\"nbf\":\"1\"", "its nbf is no time"},
    {"\"exp\":1800000001,\"nbf\":null", "its nbf is no time"},
    {"\"exp\":1800000001,\"iat\":1800000030", NULL},
    {"\"exp\":1800000001,\"iat\":1", NULL},
    {"\"exp\":1800000001,\"iat\":1800000031",
     "it was issued in the future (iat): do the clocks differ?"},
    {"\"exp\":1800000001,\"iat\":{}", "its iat is no time"},
    {"\"exp\":1800000001,\"iat\":-5", "its iat is no time"},
};

START_TEST(test_times)
{
    struct buf claims = {0};
    buf_printf(&claims, "{\"iss\":\"I\",\"aud\":\"A\",%s}", times[_i].times);
    buf_putc(&claims, '\0');
    expect(claims.ptr, &usual, times[_i].why);
    buf_reset(&claims);
}
END_TEST

START_TEST(test_exp_may_be_optional)
{
    struct claims_wanted wanted = usual;
    wanted.exp_optional = true;
    expect("{\"iss\":\"I\",\"aud\":\"A\"}", &wanted, NULL);
    expect("{\"iss\":\"I\",\"aud\":\"A\",\"exp\":1}", &wanted, "it has expired");
    expect("{\"iss\":\"I\",\"aud\":\"A\",\"exp\":null}", &wanted, "its exp is no time");
}
END_TEST

START_TEST(test_life_may_be_without_bound)
{
    struct claims_wanted wanted = usual;
    wanted.max_life_s = 0;
    expect("{\"iss\":\"I\",\"aud\":\"A\",\"exp\":9007199254740992}", &wanted, NULL);
    expect("{\"iss\":\"I\",\"aud\":\"A\",\"exp\":1e300}", &wanted, "its exp is no time");
}
END_TEST

START_TEST(test_times_are_told)
{
    cJSON *claims;
    uint64_t at_s = 7;
    ck_assert_int_eq(json_parse(SLICE_LIT("{\"exp\":12.9,\"iat\":\"1\",\"nbf\":0}"), &claims), OK);
    ck_assert_int_eq(claims_time(claims, "iat", &at_s), ERR_INVALID);
    ck_assert_int_eq(claims_time(claims, "x", &at_s), ERR_NOT_FOUND);
    ck_assert_uint_eq(at_s, 7);
    ck_assert_int_eq(claims_time(claims, "exp", &at_s), OK);
    ck_assert_uint_eq(at_s, 12);
    ck_assert_int_eq(claims_time(claims, "nbf", &at_s), OK);
    ck_assert_uint_eq(at_s, 0);
    cJSON_Delete(claims);
}
END_TEST

/* --- parties ---------------------------------------------------------------------------------- */

#define EXP ",\"exp\":1800000001}"

START_TEST(test_issuer_is_equal)
{
    expect("{\"iss\":\"I\",\"aud\":\"A\"" EXP, &usual, NULL);
    expect("{\"iss\":\"i\",\"aud\":\"A\"" EXP, &usual, "its iss is another");
    expect("{\"iss\":\"I/\",\"aud\":\"A\"" EXP, &usual, "its iss is another");
    expect("{\"aud\":\"A\"" EXP, &usual, "its iss is another");
    expect("{\"iss\":[\"I\"],\"aud\":\"A\"" EXP, &usual, "its iss is no text");
    struct claims_wanted any = usual;
    any.iss = NULL;
    expect("{\"iss\":\"other\",\"aud\":\"A\"" EXP, &any, NULL);
    expect("{\"aud\":\"A\"" EXP, &any, NULL);
    expect("{\"iss\":7,\"aud\":\"A\"" EXP, &any, "its iss is no text");
}
END_TEST

START_TEST(test_audience_is_equal_or_in_the_list)
{
    expect("{\"iss\":\"I\",\"aud\":[\"x\",\"A\"]" EXP, &usual, NULL);
    expect("{\"iss\":\"I\",\"aud\":[7,\"A\"]" EXP, &usual, NULL);
    expect("{\"iss\":\"I\",\"aud\":\"a\"" EXP, &usual, "its aud is another");
    expect("{\"iss\":\"I\",\"aud\":\"A B\"" EXP, &usual, "its aud is another");
    expect("{\"iss\":\"I\",\"aud\":[]" EXP, &usual, "its aud is another");
    expect("{\"iss\":\"I\",\"aud\":[[\"A\"]]" EXP, &usual, "its aud is another");
    expect("{\"iss\":\"I\",\"aud\":{\"A\":\"A\"}" EXP, &usual, "its aud is another");
    expect("{\"iss\":\"I\",\"aud\":7" EXP, &usual, "its aud is another");
    expect("{\"iss\":\"I\"" EXP, &usual, "its aud is another");
    struct claims_wanted any = usual;
    any.aud = NULL;
    expect("{\"iss\":\"I\"" EXP, &any, NULL);
    expect("{\"iss\":\"I\",\"aud\":\"x\"" EXP, &any, NULL);
}
END_TEST

/* Cognito's access tokens. */
START_TEST(test_another_claim_in_place_of_aud)
{
    static const char another[] = "the claim in place of aud is another";
    struct claims_wanted wanted = usual;
    wanted.aud_claim = "/client_id";
    expect("{\"iss\":\"I\",\"client_id\":\"A\"" EXP, &wanted, NULL);
    expect("{\"iss\":\"I\",\"client_id\":\"A\",\"aud\":\"x\"" EXP, &wanted, NULL);
    expect("{\"iss\":\"I\",\"client_id\":[\"B\",\"A\"]" EXP, &wanted, NULL);
    expect("{\"iss\":\"I\",\"aud\":\"A\"" EXP, &wanted, another);
    expect("{\"iss\":\"I\",\"client_id\":\"B\",\"aud\":\"A\"" EXP, &wanted, another);
    wanted.aud_claim = "/a/1/b";
    expect("{\"iss\":\"I\",\"a\":[{},{\"b\":\"A\"}]" EXP, &wanted, NULL);
    expect("{\"iss\":\"I\",\"a\":[{\"b\":\"A\"},{}]" EXP, &wanted, another);
}
END_TEST

/* --- pointers --------------------------------------------------------------------------------- */

static const struct {
    const char *pointer, *value; /* printed; NULL: there is none */
} pointers[] = {
    /* RFC 6901, 5 */
    {"/foo", "[\"bar\",\"baz\"]"},
    {"/foo/0", "\"bar\""},
    {"/", "0"},
    {"/a~1b", "1"},
    {"/c%d", "2"},
    {"/e^f", "3"},
    {"/g|h", "4"},
    {"/i\\j", "5"},
    {"/k\"l", "6"},
    {"/ ", "7"},
    {"/m~0n", "8"},
    /* and what they are not */
    {"/~01", "9"},
    {"/o//p", "10"},
    {"/foo/1", "\"baz\""},
    {"/foo/2", NULL},
    {"/foo/-", NULL},
    {"/foo/-1", NULL},
    {"/foo/01", NULL},
    {"/foo/00", NULL},
    {"/foo/0/0", NULL},
    {"/foo/", NULL},
    {"/foo/4294967296", NULL},
    {"/foo/18446744073709551616", NULL},
    {"/FOO", NULL},
    {"/fo", NULL},
    {"/fooo", NULL},
    {"/foo/bar", NULL},
    {"/a/b", NULL},
    {"/a~1", NULL},
    {"/~1", NULL},
    {"foo", NULL},
    {"/m~n", NULL},
    {"/m~2n", NULL},
    {"/m~", NULL},
    {"/o/p", NULL},
    {"/o//p/q", NULL},
    {"//", NULL},
};

START_TEST(test_pointers)
{
    static const char document[] =
        "{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/b\":1,\"c%d\":2,\"e^f\":3,\"g|h\":4,\"i\\\\j\":5,"
        "\"k\\\"l\":6,\" \":7,\"m~n\":8,\"~1\":9,\"o\":{\"\":{\"p\":10}}}";
    cJSON *claims;
    ck_assert_int_eq(json_parse(slice_of(document), &claims), OK);
    const cJSON *item = claims_at(claims, pointers[_i].pointer);
    char *text = item ? cJSON_PrintUnformatted(item) : NULL;
    const char *expected = pointers[_i].value;
    ck_assert_msg(text && expected ? strcmp(text, expected) == 0 : !text && !expected, "%s: %s",
                  pointers[_i].pointer, text ? text : "none");
    cJSON_free(text);
    ck_assert_ptr_eq(claims_at(claims, ""), claims);
    cJSON_Delete(claims);
}
END_TEST

START_TEST(test_pointers_that_are_none)
{
    static const char *const wrong[] = {"a", "a/b", "~0", "/~", "/a~", "/~2", "/a~b/c", " /a"};
    static const char *const right[] = {"", "/", "/a", "/a/b", "//", "/~0~1", "/~01"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!json_pointer_is_valid(slice_of(wrong[i])), "%s", wrong[i]);
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
        ck_assert_msg(json_pointer_is_valid(slice_of(right[i])), "%s", right[i]);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("claims");
    tcase_add_loop_test(tests, test_times, 0, sizeof(times) / sizeof(times[0]));
    tcase_add_test(tests, test_exp_may_be_optional);
    tcase_add_test(tests, test_life_may_be_without_bound);
    tcase_add_test(tests, test_times_are_told);
    tcase_add_test(tests, test_issuer_is_equal);
    tcase_add_test(tests, test_audience_is_equal_or_in_the_list);
    tcase_add_test(tests, test_another_claim_in_place_of_aud);
    tcase_add_loop_test(tests, test_pointers, 0, sizeof(pointers) / sizeof(pointers[0]));
    tcase_add_test(tests, test_pointers_that_are_none);
    return tests_run(tests);
}
