/* SPDX-License-Identifier: Apache-2.0 */
/* What a request presents: which of several things counts, and what is no credential at all. */
#include <stdlib.h>
#include <string.h>

#include "relay/http/credential.h"
#include "test/unit/tests_run.h"

static struct request_pair query[4];
static struct request_view view;

static struct credential_sources sources(void)
{
    view = (struct request_view){.query = query};
    return (struct credential_sources){.view = &view, .cookie_name = "sse"};
}

static void add_query(const char *name, const char *value)
{
    query[view.query_count++] = (struct request_pair){slice_of(name), slice_of(value)};
}

static enum err find(const struct credential_sources *from, struct credential *out)
{
    const char *why = NULL;
    enum err e = credential_find(from, out, &why);
    ck_assert((e == OK) == (why == NULL));
    return e;
}

static void ck_found(const struct credential_sources *from, enum credential_kind kind,
                     const char *text)
{
    struct credential c;
    ck_assert_int_eq(find(from, &c), OK);
    ck_assert_int_eq(c.kind, kind);
    if (text)
        ck_assert(slice_is(c.text, text));
}

START_TEST(test_the_first_that_is_there_counts)
{
    struct credential_sources from = sources();
    ck_found(&from, CREDENTIAL_NONE, NULL);
    from.query = true;
    add_query("access_token", "q.q.q");
    ck_found(&from, CREDENTIAL_QUERY, "q.q.q");
    from.cookies[from.cookie_count++] = SLICE_LIT("a=b; sse=c.c.c; d");
    ck_found(&from, CREDENTIAL_COOKIE, "c.c.c");
    add_query("ticket", "t1~x");
    ck_found(&from, CREDENTIAL_TICKET, "t1~x");
    from.authorization = SLICE_LIT("bEARER h.h.h");
    ck_found(&from, CREDENTIAL_BEARER, "h.h.h");
}
END_TEST

START_TEST(test_what_is_not_asked_for_does_not_count)
{
    struct credential_sources from = sources();
    from.cookie_name = "";
    from.cookies[from.cookie_count++] = SLICE_LIT("sse=c");
    add_query("access_token", "q");
    ck_found(&from, CREDENTIAL_NONE, NULL);
}
END_TEST

START_TEST(test_a_bad_header_never_falls_back)
{
    static const char *const bad[] = {
        "Bearer",       "Bearer ",     "Bearer a b", "Basic Zm9vOmJhcg==", "", "Bearer a,b",
        "Bearer \"a\"", "Bearer a\tb", "Beare a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct credential_sources from = sources();
        struct credential c;
        from.cookies[from.cookie_count++] = SLICE_LIT("sse=good");
        from.authorization = slice_of(bad[i]);
        ck_assert_int_eq(find(&from, &c), ERR_INVALID);
    }
}
END_TEST

START_TEST(test_each_byte_wherever_it_stands)
{
    static const char marks[] = "-._~+/=";
    for (int c = 0; c < 256; c++) {
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool is_one = letter || (c >= '0' && c <= '9') || (c && strchr(marks, c));
        for (size_t at = 0; at < 20; at++) {
            char header[] = "Bearer 01234567890123456789";
            struct credential_sources from = sources();
            struct credential out;
            header[sizeof("Bearer ") - 1 + at] = (char)c;
            from.authorization = (struct slice){header, sizeof(header) - 1};
            /* White space in front of it, and behind, does not belong to it. */
            bool trimmed = (c == ' ' || c == '\t') && (at == 0 || at == 19);
            ck_assert_int_eq(find(&from, &out), is_one || trimmed ? OK : ERR_INVALID);
        }
    }
}
END_TEST

START_TEST(test_what_stands_twice_is_refused)
{
    struct credential c;
    struct credential_sources from = sources();
    from.cookies[from.cookie_count++] = SLICE_LIT("sse=a; x=y; sse=a");
    ck_assert_int_eq(find(&from, &c), ERR_RANGE);
    from = sources();
    from.cookies[from.cookie_count++] = SLICE_LIT("sse=a");
    from.cookies[from.cookie_count++] = SLICE_LIT("sse=b");
    ck_assert_int_eq(find(&from, &c), ERR_RANGE);
    from = sources();
    from.cookie_count = CREDENTIAL_COOKIES_MAX + 1;
    ck_assert_int_eq(find(&from, &c), ERR_RANGE);
    from = sources();
    add_query("ticket", "t1~a");
    add_query("ticket", "t1~b");
    from.authorization = SLICE_LIT("Bearer good");
    ck_assert_int_eq(find(&from, &c), ERR_RANGE);
}
END_TEST

START_TEST(test_cookies_are_told_apart_by_their_whole_name)
{
    struct credential_sources from = sources();
    struct credential c;
    from.cookies[from.cookie_count++] = SLICE_LIT("xsse=a; sse2=b; SSE=c; ssesse; =sse");
    ck_found(&from, CREDENTIAL_NONE, NULL);
    from.cookies[0] = SLICE_LIT(" sse = v ;;");
    ck_found(&from, CREDENTIAL_COOKIE, "v");
    from.cookies[0] = SLICE_LIT("sse");
    ck_assert_int_eq(find(&from, &c), ERR_INVALID);
    from.cookies[0] = SLICE_LIT("sse=\"v\"");
    ck_assert_int_eq(find(&from, &c), ERR_INVALID);
}
END_TEST

START_TEST(test_a_ticket_begins_with_its_namespace)
{
    struct slice ns;
    ck_assert_int_eq(credential_ticket_ns(SLICE_LIT("t-1~abc"), &ns), OK);
    ck_assert(slice_is(ns, "t-1"));
    ck_assert_int_eq(credential_ticket_ns(SLICE_LIT("t1"), &ns), ERR_INVALID);
    ck_assert_int_eq(credential_ticket_ns(SLICE_LIT("~abc"), &ns), ERR_INVALID);
    ck_assert_int_eq(credential_ticket_ns(SLICE_LIT("t.1~abc"), &ns), ERR_INVALID);
    ck_assert_int_eq(credential_ticket_ns(SLICE_LIT("t1~"), &ns), ERR_INVALID);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("credential");
    tcase_add_test(t, test_the_first_that_is_there_counts);
    tcase_add_test(t, test_what_is_not_asked_for_does_not_count);
    tcase_add_test(t, test_a_bad_header_never_falls_back);
    tcase_add_test(t, test_each_byte_wherever_it_stands);
    tcase_add_test(t, test_what_stands_twice_is_refused);
    tcase_add_test(t, test_cookies_are_told_apart_by_their_whole_name);
    tcase_add_test(t, test_a_ticket_begins_with_its_namespace);
    return tests_run(t);
}
