/* SPDX-License-Identifier: Apache-2.0 */
#include "common/envelope.h"
#include "common/match.h"
#include "common/mem.h"
#include "test/unit/rng.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct slice ns = SLICE_LIT("n"), topic = SLICE_LIT("a.b");
static struct envelope env;

static enum err parse(struct slice bytes, struct event_fields *out)
{
    return envelope_parse(&env, bytes, ns, topic, out);
}

/* Its match as "name=value;", "" for nobody, "all" where there is none. */
static const char *match_shown(const struct event_fields *f)
{
    static char text[256];
    size_t len = 0;
    struct event *ev = event_new(f, 0);
    const char *at = event_match(ev), *name, *value;
    ck_assert_int_eq(event_has_match(ev), at != NULL);
    snprintf(text, sizeof(text), "%s", at ? "" : "all");
    while (at && match_next(&at, &name, &value))
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s=%s;", name, value);
    event_unref(ev);
    return text;
}

START_TEST(test_full_envelope)
{
    struct event_fields f;
    ck_assert(
        parse(SLICE_LIT("{\"sse\":1,\"id\":\"9007199254740991\",\"prev\":\"41\",\"topic\":\"x\","
                        "\"ns\":\"y\",\"data\":\"h\\u00e9\\n\",\"event\":\"t\",\"retry\":1500,"
                        "\"ttl\":\"60000\",\"match\":{\"user\":\"1\"},\"new\":[{}]}"),
              &f) == OK);
    ck_assert_uint_eq(f.id, EVENT_ID_MAX);
    ck_assert(f.has_prev && f.prev == 41);
    ck_assert(slice_is(f.ns, "n") && slice_is(f.topic, "a.b"));
    ck_assert(slice_is(f.data, "h\xC3\xA9\n"));
    ck_assert(slice_is(f.type, "t"));
    ck_assert_int_eq(f.retry_ms, 1500);
    ck_assert_uint_eq(f.ttl_ms, 60000);
    ck_assert_str_eq(match_shown(&f), "user=1;");
}
END_TEST

START_TEST(test_least_envelope)
{
    struct event_fields f;
    ck_assert(parse(SLICE_LIT("{\"data\":\"\",\"sse\":1}\n"), &f) == OK);
    ck_assert_uint_eq(f.id, 0);
    ck_assert(!f.has_prev && !f.has_match && f.retry_ms == -1 && f.ttl_ms == 0);
    ck_assert_ptr_null(f.type.ptr);
    ck_assert_ptr_nonnull(f.data.ptr);
    ck_assert_uint_eq(f.data.len, 0);
    ck_assert(parse(SLICE_LIT("{\"s\\u0073e\":1.0,\"data\":\"x\",\"id\":5,\"prev\":0,"
                              "\"retry\":\"0\",\"event\":null,\"match\":null}"),
                    &f) == OK);
    ck_assert(f.id == 5 && f.has_prev && f.prev == 0 && f.retry_ms == 0);
    ck_assert(f.type.ptr == NULL && !f.has_match);
}
END_TEST

START_TEST(test_bytes_in_data)
{
    struct event_fields f;
    ck_assert(parse(SLICE_LIT("{\"sse\":1,\"data\":\"a\\u0000\xFF\\\\u0000\"}"), &f) == OK);
    ck_assert(slice_is(f.data, "a\xFF\\u0000"));
    ck_assert(parse(SLICE_LIT("{\"sse\":1,\"data\":\"\\u0000\",\"event\":\"a\\u0000b\"}"), &f) ==
              OK);
    ck_assert(slice_is(f.data, "") && slice_is(f.type, "ab"));
}
END_TEST

START_TEST(test_anything_else_is_raw)
{
    static const struct slice raw[] = {
        SLICE_LIT(""),
        SLICE_LIT("hello"),
        SLICE_LIT("\0\xFF\n"),
        SLICE_LIT("[1]"),
        SLICE_LIT("{}"),
        SLICE_LIT("{\"a\":1}"),
        SLICE_LIT("{\"sse\":\"1\",\"data\":\"x\"}"),
        SLICE_LIT("{\"sse\":2,\"data\":\"x\"}"),
        SLICE_LIT("{\"sse\":1.5,\"data\":\"x\"}"),
        SLICE_LIT("{\"sse\":true,\"data\":\"x\"}"),
        SLICE_LIT("{\"SSE\":1,\"data\":\"x\"}"),
        SLICE_LIT("{\"a\":{\"sse\":1,\"data\":\"x\"}}"),
        SLICE_LIT("{\"sse\": 1, not JSON"),
        SLICE_LIT(" {\"sse\":1,\"data\":\"x\"}"),
        SLICE_LIT("[{\"sse\":1,\"data\":\"x\"}]"),
    };
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++) {
        struct event_fields f;
        ck_assert_msg(parse(raw[i], &f) == ERR_NOT_FOUND, "%s", raw[i].ptr);
        ck_assert(slice_eq(f.data, raw[i]) && f.id == 0 && f.retry_ms == -1 && !f.has_prev);
        ck_assert(slice_is(f.ns, "n") && slice_is(f.topic, "a.b") && f.type.ptr == NULL);
    }
}
END_TEST

static const char *const broken_members[] = {
    "\"id\":1",
    "\"data\":null",
    "\"data\":1",
    "\"data\":{}",
    "\"data\":\"x\",\"id\":-1",
    "\"data\":\"x\",\"id\":1.5",
    "\"data\":\"x\",\"id\":1e400",
    "\"data\":\"x\",\"id\":9007199254740992",
    "\"data\":\"x\",\"id\":\"9007199254740992\"",
    "\"data\":\"x\",\"id\":\"\"",
    "\"data\":\"x\",\"id\":\"01\"",
    "\"data\":\"x\",\"id\":\"1-0\"",
    "\"data\":\"x\",\"id\":\" 1\"",
    "\"data\":\"x\",\"id\":true",
    "\"data\":\"x\",\"id\":[]",
    "\"data\":\"x\",\"id\":5,\"prev\":\"x\"",
    "\"data\":\"x\",\"id\":5,\"prev\":5",
    "\"data\":\"x\",\"id\":5,\"prev\":6",
    "\"data\":\"x\",\"event\":1",
    "\"data\":\"x\",\"retry\":-1",
    "\"data\":\"x\",\"retry\":\"1s\"",
    "\"data\":\"x\",\"retry\":{}",
    "\"data\":\"x\",\"ttl\":\"soon\"",
    "\"data\":\"x\"",     /* the bracket is missing */
    "\"data\":\"x\",\"a", /* cut off */
};

START_TEST(test_broken_envelopes_are_dropped)
{
    struct event_fields f = {.id = 77};
    size_t count = sizeof broken_members / sizeof *broken_members;
    for (size_t i = 0; i < count; i++) {
        struct buf b = {0};
        buf_printf(&b, "{\"sse\":1,%s%s", broken_members[i], i < count - 2 ? "}" : "");
        ck_assert_msg(parse(buf_slice(&b), &f) == ERR_INVALID, "%s", broken_members[i]);
        buf_reset(&b);
    }
    ck_assert_uint_eq(f.id, 77);
}
END_TEST

START_TEST(test_a_megabyte)
{
    struct event_fields f;
    struct buf b = {0};
    buf_puts(&b, "{\"sse\":1,\"id\":1,\"data\":\"");
    for (int i = 0; i < 1 << 20; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\"}");
    ck_assert(parse(buf_slice(&b), &f) == OK);
    ck_assert_uint_eq(f.data.len, 1 << 20);
    buf_reset(&b);
}
END_TEST

START_TEST(test_log_entries)
{
    struct event_fields f;
    const struct slice fields[] = {
        SLICE_LIT("data"),  SLICE_LIT("a\0\n"), SLICE_LIT("prev"),     SLICE_LIT("41"),
        SLICE_LIT("event"), SLICE_LIT("t"),     SLICE_LIT("retry"),    SLICE_LIT("250"),
        SLICE_LIT("ttl"),   SLICE_LIT("9"),     SLICE_LIT("priority"), SLICE_LIT("-3"),
        SLICE_LIT("match"), SLICE_LIT("{}"),
    };
    ck_assert(envelope_from_entry(&env, SLICE_LIT("42-0"), fields, 14, ns, topic, &f) == OK);
    ck_assert(f.id == 42 && f.has_prev && f.prev == 41 && f.retry_ms == 250 && f.ttl_ms == 9);
    ck_assert(f.has_match && slice_is(f.type, "t") && slice_eq(f.data, SLICE_LIT("a\0\n")));
    ck_assert(slice_is(f.ns, "n") && slice_is(f.topic, "a.b"));
    ck_assert(
        envelope_from_entry(&env, SLICE_LIT("9007199254740991-0"), fields, 2, ns, topic, &f) == OK);
    ck_assert(f.id == EVENT_ID_MAX && !f.has_prev && f.retry_ms == -1 && !f.has_match);
}
END_TEST

/* Each is an envelope's, and but for those with other names or none a log entry's. */
static const struct {
    const char *members, *shown;
} matches[] = {
    {"\"match\":{\"user\":\"42\"}", "user=42;"},
    {"\"match\" : { \"b\" : \"\" , \"a\":\"\\u0041\" }", "b=;a=A;"},
    {"\"m\\u0061tch\":{\"user\":\"42\"}", "user=42;"},
    {"\"Match\":{\"user\":\"42\"}", "all"},
    {"\"match\":null", "all"},
    {"\"x\":{\"match\":{\"user\":\"42\"}}", "all"},
    {"\"x\":{\"match\":{\"user\":\"42\"}},\"match\":{\"user\":\"43\"}", "user=43;"},
    /* What cannot be read is for nobody: */
    {"\"match\":{}", ""},
    {"\"match\":[]", ""},
    {"\"match\":\"\"", ""},
    {"\"match\":false", ""},
    {"\"match\":0", ""},
    {"\"match\":\"{\\\"user\\\":\\\"42\\\"}\"", ""},
    {"\"match\":{\"user\":42}", ""},
    {"\"match\":{\"user\":\"42\",\"org\":null}", ""},
    {"\"match\":{\"user\":\"42\",\"user\":\"43\"}", ""},
    {"\"match\":{\"user\":\"4\\u00002\"}", ""},
    {"\"match\":{\"user\\u0000\":\"42\"}", ""},
    {"\"match\":{\"user\":\"\xFF\"}", ""},
    {"\"match\":{\"user\":\"\\udc00\"}", ""},
    {"\"match\":{\"user\":\"42\"},\"match\":null", ""},
    {"\"match\":null,\"match\":{\"user\":\"42\"}", ""},
    {"\"match\":{\"user\":\"42\"},\"match\":{\"user\":\"42\"}", ""},
    {"\"mat\\u0000ch\":{\"user\":\"42\"}", ""},
};

START_TEST(test_who_an_envelope_is_for)
{
    struct event_fields f;
    struct buf b = {0};
    for (size_t i = 0; i < sizeof matches / sizeof *matches; i++) {
        buf_clear(&b);
        buf_printf(&b, "{\"sse\":1,\"data\":\"x\",%s}", matches[i].members);
        ck_assert_msg(parse(buf_slice(&b), &f) == OK, "%s", b.ptr);
        ck_assert_msg(strcmp(match_shown(&f), matches[i].shown) == 0, "%.*s: %s", (int)b.len, b.ptr,
                      match_shown(&f));
    }
    buf_reset(&b);
    ck_assert(parse(SLICE_LIT("{\"sse\":1,\"data\":\"x\"}"), &f) == OK); /* nothing has stayed */
    ck_assert_str_eq(match_shown(&f), "all");
}
END_TEST

START_TEST(test_who_a_log_entry_is_for)
{
    static const char *const nobody[] = {
        "", "null", "{}", "[]", "x", "{\"user\":42}", "user", "42", "{\"user\":\"4\\u00002\"}"};
    struct slice fields[] = {SLICE_LIT("match"), SLICE_LIT("{\"user\":\"42\",\"org\":\"a\"}"),
                             SLICE_LIT("data"),  SLICE_LIT("x"),
                             SLICE_LIT("match"), SLICE_LIT("{\"user\":\"42\"}")};
    const struct slice id = SLICE_LIT("42-0");
    struct event_fields f;
    ck_assert(envelope_from_entry(&env, id, fields, 4, ns, topic, &f) == OK);
    ck_assert_str_eq(match_shown(&f), "user=42;org=a;");
    ck_assert(envelope_from_entry(&env, id, fields, 6, ns, topic, &f) == OK);
    ck_assert_str_eq(match_shown(&f), "");
    ck_assert(envelope_from_entry(&env, id, fields + 2, 2, ns, topic, &f) == OK);
    ck_assert_str_eq(match_shown(&f), "all");
    for (size_t i = 0; i < sizeof nobody / sizeof *nobody; i++) {
        fields[1] = slice_of(nobody[i]);
        ck_assert(envelope_from_entry(&env, id, fields, 4, ns, topic, &f) == OK);
        ck_assert_msg(strcmp(match_shown(&f), "") == 0, "%s", nobody[i]);
    }
}
END_TEST

START_TEST(test_strange_log_entries)
{
    static const char *const bad_ids[] = {"",     "-0",    "0-0",  "1",
                                          "1-1",  "1-00",  "x-0",  "01-0",
                                          "-1-0", "1-0-0", " 1-0", "9007199254740992-0"};
    struct event_fields f = {.id = 77};
    struct slice fields[] = {SLICE_LIT("data"), SLICE_LIT("x"), SLICE_LIT("prev"), SLICE_LIT("41")};
    for (size_t i = 0; i < sizeof bad_ids / sizeof *bad_ids; i++)
        ck_assert_msg(envelope_from_entry(&env, slice_of(bad_ids[i]), fields, 4, ns, topic, &f) ==
                          ERR_INVALID,
                      "%s", bad_ids[i]);
    struct slice id = SLICE_LIT("42-0");
    ck_assert(envelope_from_entry(&env, id, fields, 0, ns, topic, &f) == ERR_INVALID);
    ck_assert(envelope_from_entry(&env, id, fields, 3, ns, topic, &f) == ERR_INVALID);
    ck_assert(envelope_from_entry(&env, id, fields + 2, 2, ns, topic, &f) == ERR_INVALID);
    ck_assert(envelope_from_entry(&env, SLICE_LIT("41-0"), fields, 4, ns, topic, &f) ==
              ERR_INVALID);
    fields[3] = SLICE_LIT("4x");
    ck_assert(envelope_from_entry(&env, id, fields, 4, ns, topic, &f) == ERR_INVALID);
    ck_assert_uint_eq(f.id, 77);
}
END_TEST

START_TEST(test_mutations_never_crash)
{
    static const char seed_text[] =
        "{\"sse\":1,\"id\":\"1712345678901234\",\"prev\":\"0\",\"topic\":\"a\",\"data\":\"x\\u0000"
        "\\ud83d\\ude00{[\",\"event\":\"t\",\"retry\":1500,\"match\":{\"user_id\":\"42\"}}";
    static const char spice[] = "{}[]\",:\\u0019-+.eE \n\0\xFF\xC3";
    struct rng rng = rng_seeded("envelope");
    size_t outcomes[3] = {0};
    for (int round = 0; round < 50000; round++) {
        size_t len = sizeof seed_text - 1;
        char *bytes = mem_dup(seed_text, len);
        for (size_t i = rng_below(&rng, 4); i > 0; i--)
            bytes[rng_below(&rng, len)] = spice[rng_below(&rng, sizeof spice - 1)];
        if (rng_below(&rng, 4) == 0)
            len = rng_below(&rng, len);
        /* Its own allocation of just that size, so that a sanitizer sees a read behind it. */
        char *exact = mem_alloc(len);
        memcpy(exact, bytes, len);
        struct event_fields f;
        enum err e = parse((struct slice){exact, len}, &f);
        ck_assert(e == OK || e == ERR_NOT_FOUND || e == ERR_INVALID);
        outcomes[e == OK ? 0 : e == ERR_NOT_FOUND ? 1 : 2]++;
        if (e != ERR_INVALID) {
            ck_assert(f.id <= EVENT_ID_MAX && f.data.ptr != NULL);
            match_shown(&f);
        }
        free(exact);
        free(bytes);
    }
    ck_assert(outcomes[0] > 0 && outcomes[1] > 0 && outcomes[2] > 0);
}
END_TEST

static void release(void)
{
    envelope_reset(&env);
    envelope_reset(&env);
}

int main(void)
{
    TCase *tests = tcase_create("envelope");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, NULL, release);
    tcase_add_test(tests, test_full_envelope);
    tcase_add_test(tests, test_least_envelope);
    tcase_add_test(tests, test_bytes_in_data);
    tcase_add_test(tests, test_anything_else_is_raw);
    tcase_add_test(tests, test_broken_envelopes_are_dropped);
    tcase_add_test(tests, test_a_megabyte);
    tcase_add_test(tests, test_log_entries);
    tcase_add_test(tests, test_who_an_envelope_is_for);
    tcase_add_test(tests, test_who_a_log_entry_is_for);
    tcase_add_test(tests, test_strange_log_entries);
    tcase_add_test(tests, test_mutations_never_crash);
    return tests_run(tests);
}
