/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets and revocations in memory: the same answers as in Redis (test_lua_auth.py), and bounds.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/hash.h"
#include "relay/memory/memory_calls.h"
#include "test/unit/tests_run.h"

enum { TICKETS = 20, REVOKED = 5 };
#define NOW_S UINT64_C(1767225600)

static struct config *config;
static struct memory_calls *calls;
static uint64_t now_us;
static struct store_call call; /* the last */
static struct buf told;

static void load_config(const char *option, const char *value)
{
    char name[] = "sse-relay", redis[] = "--redis", memory[] = "memory:";
    char *argv[] = {name, redis, memory, (char *)option, (char *)value, NULL}, *none[] = {NULL};
    char *message = NULL;
    enum config_action action;
    config_unref(config);
    ck_assert_int_eq(config_load(5, argv, none, &config, &action, &message), OK);
}

static void setup(void)
{
    hash_seed_init();
    config = NULL;
    load_config("--log.max_events", "10");
    calls = memory_calls_new(TICKETS, REVOKED);
    now_us = NOW_S * 1000000;
}

static void teardown(void)
{
    strings_reset(&call.answer);
    buf_reset(&told);
    memory_calls_free(calls);
    config_unref(config);
}

static enum err run_in(const char *ns, const char *function, const char *const *texts)
{
    struct strings args = {0};
    strings_reset(&call.answer);
    buf_clear(&told);
    for (size_t i = 0; texts[i]; i++)
        strings_add(&args, slice_of(texts[i]));
    call = (struct store_call){.function = function, .ns = ns, .args = &args};
    enum err e = memory_calls_run(calls, &call, config, now_us, &told);
    strings_reset(&args);
    return e;
}

#define RUN(function, ...) run_in("t1", function, (const char *const[]){__VA_ARGS__, NULL})

/* The answer, joined. */
static const char *answer(void)
{
    static char text[400];
    text[0] = '\0';
    for (size_t i = 0, len = 0; i < call.answer.count; i++, len = strlen(text))
        snprintf(text + len, sizeof(text) - len, "%s%s", i ? "|" : "", call.answer.items[i]);
    return text;
}

#define EXPECT(text) ck_assert_str_eq(answer(), text)

static void issue(const char *hash, const char *ttl, const char *until)
{
    ck_assert_int_eq(RUN("sse_ticket", hash, "grant", "{g}", "ttl", ttl, "until", until), OK);
    EXPECT("OK");
}

static const char *take(const char *connection, const char *cursor, const char *grace)
{
    ck_assert_int_eq(
        RUN("sse_ticket_take", "h", "connection", connection, "cursor", cursor, "grace", grace),
        OK);
    return answer();
}

static void end(const char *connection, const char *grace, const char *unused)
{
    ck_assert_int_eq(
        RUN("sse_ticket_end", "h", "connection", connection, "grace", grace, "unused", unused), OK);
    EXPECT("OK");
}

static void pass_ms(uint64_t ms)
{
    now_us += ms * 1000;
}

static bool is_refused(const char *text)
{
    return strncmp(text, "no|", 3) == 0;
}

START_TEST(test_a_ticket_is_used_once)
{
    issue("h", "30000", "0");
    ck_assert_int_eq(
        run_in("t2", "sse_ticket_take",
               (const char *const[]){"h", "connection", "1", "cursor", "0", "grace", "0", NULL}),
        OK);
    ck_assert(is_refused(answer()));
    ck_assert_str_eq(take("1", "0", "60000"), "ok|{g}|");
    ck_assert_str_eq(take("1", "0", "60000"), "ok|{g}|"); /* the same call again */
    ck_assert_str_eq(take("2", "0", "60000"),
                     "no|it was used, and this is no reconnect: it has no cursor");
    ck_assert_str_eq(take("2", "1", "0"), "no|it was used");
    ck_assert_int_eq(RUN("sse_ticket", "h", "grant", "{}", "ttl", "1", "until", "0"), ERR_DENIED);
    EXPECT("ERR sse_ticket: hash: there is a ticket with it");
}
END_TEST

START_TEST(test_its_own_stream_takes_it_again)
{
    issue("h", "30000", "0");
    take("1", "0", "60000");
    pass_ms(100000);
    ck_assert_str_eq(take("2", "1", "60000"), "ok|{g}|1");
    end("1", "0", "0"); /* not its own any more */
    ck_assert_str_eq(take("3", "1", "60000"), "ok|{g}|2");
    end("3", "60000", "0");
    pass_ms(59999);
    ck_assert_str_eq(take("4", "1", "60000"), "ok|{g}|");
    end("4", "60000", "0");
    pass_ms(60000);
    ck_assert(is_refused(take("5", "1", "60000")));
    issue("h", "30000", "0");
    take("1", "0", "0");
    end("1", "0", "0");
    ck_assert(is_refused(take("1", "1", "60000")));
}
END_TEST

START_TEST(test_its_times)
{
    char until[24];
    snprintf(until, sizeof(until), "%llu", (unsigned long long)NOW_S + 100);
    issue("h", "30000", until);
    pass_ms(30000);
    ck_assert(is_refused(take("1", "0", "60000"))); /* nobody used it */
    issue("h", "30000", until);
    take("1", "0", "60000");
    end("1", "1000", "1"); /* nobody was told anything */
    pass_ms(29999);
    ck_assert_str_eq(take("2", "0", "60000"), "ok|{g}|");
    pass_ms(1);
    end("2", "1000", "1"); /* its first ttl is over, and still nobody was: as long as a grace */
    pass_ms(999);
    ck_assert_str_eq(take("3", "0", "60000"), "ok|{g}|");
    ck_assert_str_eq(take("4", "1", "60000"), "ok|{g}|3");
    end("4", "1000", "1"); /* that of "3" was, as it came again with a cursor */
    ck_assert(is_refused(take("5", "0", "60000")));
    ck_assert_str_eq(take("5", "1", "60000"), "ok|{g}|");
    end("5", "0", "0");
    issue("h", "30000", until);
    take("1", "0", "60000");
    end("1", "600000", "0");
    pass_ms(40000);
    ck_assert(is_refused(take("2", "1", "60000"))); /* the token has ended */
    ck_assert_int_eq(RUN("sse_ticket", "h", "grant", "{}", "ttl", "1", "until", until), ERR_DENIED);
    EXPECT("ERR sse_ticket: until: is over");
}
END_TEST

START_TEST(test_tickets_are_bounded)
{
    char hash[16];
    for (int i = 0; i < TICKETS; i++) {
        snprintf(hash, sizeof(hash), "h%d", i);
        issue(hash, "1000", "0");
    }
    ck_assert_int_eq(RUN("sse_ticket", "more", "grant", "{}", "ttl", "1", "until", "0"),
                     ERR_DENIED);
    ck_assert_ptr_nonnull(strstr(answer(), "full"));
    pass_ms(1000);
    issue("more", "1000", "0");
}
END_TEST

START_TEST(test_what_is_revoked_is_told_and_listed)
{
    load_config("--auth.max_token_life", "1h");
    ck_assert_int_eq(RUN("sse_revoke", "sub", "a\"b"), OK);
    EXPECT("OK");
    ck_assert(slice_is(buf_slice(&told),
                       "{\"kind\":\"sub\",\"value\":\"a\\\"b\",\"before\":\"1767225600\","
                       "\"expires\":\"1767229800\"}"));
    RUN("sse_revoke", "sub", "a\"b", "before", "5"); /* it only rises */
    ck_assert(strstr(answer(), "OK"));
    ck_assert_int_eq(RUN("sse_revoke", "kid", "k"), OK);
    ck_assert(slice_is(buf_slice(&told),
                       "{\"kind\":\"kid\",\"value\":\"k\",\"before\":\"0\",\"expires\":\"0\"}"));
    ck_assert_int_eq(run_in("t1", "sse_revoked", (const char *const[]){NULL}), OK);
    EXPECT("sub|a\"b|1767225600|1767229800|kid|k|0|0");
    ck_assert_int_eq(run_in("t2", "sse_revoked", (const char *const[]){NULL}), OK);
    EXPECT("");
    pass_ms(4201000);
    ck_assert_int_eq(run_in("t1", "sse_revoked", (const char *const[]){NULL}), OK);
    EXPECT("kid|k|0|0");
    load_config("--auth.max_token_life", "0");
    RUN("sse_revoke", "jti", "j");
    ck_assert_int_eq(run_in("t1", "sse_revoked", (const char *const[]){NULL}), OK);
    EXPECT("jti|j|0|0|kid|k|0|0");
}
END_TEST

START_TEST(test_revocations_are_bounded_and_none_is_forgotten)
{
    char value[16];
    for (int i = 0; i < REVOKED; i++) {
        snprintf(value, sizeof(value), "j%d", i);
        ck_assert_int_eq(RUN("sse_revoke", "jti", value), OK);
    }
    ck_assert_int_eq(RUN("sse_revoke", "jti", "more"), ERR_DENIED);
    ck_assert(strncmp(answer(), "ERR sse_revoke: full: ", 22) == 0);
    ck_assert_uint_eq(told.len, 0);
    ck_assert_int_eq(RUN("sse_revoke", "jti", "j0"), OK);
    ck_assert_int_eq(RUN("sse_revoke", "sub", "more"), OK);
    run_in("t1", "sse_revoked", (const char *const[]){NULL});
    ck_assert_uint_eq(call.answer.count, 4 * (REVOKED + 1));
    pass_ms(UINT64_C(31) * 86400000);
    ck_assert_int_eq(RUN("sse_revoke", "jti", "more"), OK);
}
END_TEST

START_TEST(test_what_is_wrong_is_told_and_changes_nothing)
{
    static const struct {
        const char *args[5];
        const char *why;
    } cases[] = {
        {{NULL}, "jti, sub or kid: missing"},
        {{"jti", NULL}, "jti, sub or kid: missing"},
        {{"jti", "", NULL}, "jti, sub or kid: not 1 to 1024 bytes"},
        {{"jti", "a", "sub", "b", NULL}, "jti, sub or kid: only one of them"},
        {{"jti", "a", "before", "1", NULL}, "before: only with sub"},
        {{"sub", "a", "before", "x", NULL}, "before: not an integer from 0 to 2^53 - 1"},
        {{"sub", "a", "before", "1767225600123", NULL},
         "before: more than a day ahead (it is a Unix time in seconds)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[200];
        snprintf(text, sizeof(text), "ERR sse_revoke: %s", cases[i].why);
        ck_assert_int_eq(run_in("t1", "sse_revoke", cases[i].args), ERR_DENIED);
        EXPECT(text);
        ck_assert_uint_eq(told.len, 0);
    }
    run_in("t1", "sse_revoked", (const char *const[]){NULL});
    EXPECT("");
    ck_assert_int_eq(RUN("sse_ticket", "h"), ERR_DENIED);
    ck_assert_int_eq(RUN("sse_ticket_take", "h"), ERR_DENIED);
    ck_assert_int_eq(RUN("sse_ticket_end", "h"), ERR_DENIED);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("memory_calls");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_a_ticket_is_used_once);
    tcase_add_test(tests, test_its_own_stream_takes_it_again);
    tcase_add_test(tests, test_its_times);
    tcase_add_test(tests, test_tickets_are_bounded);
    tcase_add_test(tests, test_what_is_revoked_is_told_and_listed);
    tcase_add_test(tests, test_revocations_are_bounded_and_none_is_forgotten);
    tcase_add_test(tests, test_what_is_wrong_is_told_and_changes_nothing);
    return tests_run(tests);
}
