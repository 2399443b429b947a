/* SPDX-License-Identifier: Apache-2.0 */
/* What a grant allows, which events are for it, and how it travels. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "client_rig.h"
#include "common/mem.h"
#include "grant_rig.h"
#include "rng.h"
#include "test/unit/tests_run.h"

static struct grant *parsed(const char *json)
{
    struct grant *g = NULL;
    ck_assert_msg(grant_parse_json(slice_of(json), &g) == OK, "%s", json);
    return g;
}

static const char *written(const struct grant *g)
{
    static struct buf text;
    buf_clear(&text);
    grant_put_json(&text, g);
    buf_putc(&text, '\0');
    return text.ptr;
}

/* --- what it allows --------------------------------------------------------------------------- */

START_TEST(test_what_is_requested_lies_within_one_granted_pattern)
{
    struct grant *g = parsed("{\"subscribe\":[\"orders.*\",\"user.42\"],\"publish\":[\"a.>\"]}");
    static const char *const within[] = {"orders.*", "orders.eu", "user.42"};
    static const char *const outside[] = {"orders.>", ">",       "*.*", "orders.eu.x",
                                          "orders",   "user.43", "a.b"};
    for (size_t i = 0; i < sizeof within / sizeof *within; i++)
        ck_assert_msg(grant_may_subscribe(g, slice_of(within[i])), "%s", within[i]);
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        ck_assert_msg(!grant_may_subscribe(g, slice_of(outside[i])), "%s", outside[i]);
    ck_assert(grant_may_publish(g, SLICE_LIT("a.b.c")));
    ck_assert(!grant_may_publish(g, SLICE_LIT("a")));
    ck_assert(!grant_may_publish(g, SLICE_LIT("orders.eu")));
    grant_unref(g);
}
END_TEST

START_TEST(test_two_granted_patterns_do_not_add_up)
{
    struct grant *g = parsed("{\"subscribe\":[\"a.b\",\"a.*.>\"]}");
    ck_assert(!grant_may_subscribe(g, SLICE_LIT("a.>")));
    ck_assert(!grant_may_subscribe(g, SLICE_LIT("a.*")));
    grant_unref(g);
}
END_TEST

START_TEST(test_an_empty_grant_allows_nothing)
{
    struct grant *g = parsed("{}");
    ck_assert(!grant_may_subscribe(g, SLICE_LIT("a")));
    ck_assert(!grant_may_publish(g, SLICE_LIT("a")));
    grant_unref(g);
}
END_TEST

START_TEST(test_a_ticket_only_reads)
{
    struct grant *g = parsed("{\"subscribe\":[\">\"],\"publish\":[\">\"],\"from_ticket\":true}");
    ck_assert(grant_may_subscribe(g, SLICE_LIT("a")));
    ck_assert(!grant_may_publish(g, SLICE_LIT("a")));
    grant_unref(g);
}
END_TEST

START_TEST(test_the_same_subject)
{
    static const char *const others[] = {
        "{\"ns\":\"t1\",\"iss\":\"I\",\"sub\":\"43\"}",
        "{\"ns\":\"t2\",\"iss\":\"I\",\"sub\":\"42\"}",
        "{\"ns\":\"t1\",\"iss\":\"J\",\"sub\":\"42\"}",
        "{\"ns\":\"t1\",\"sub\":\"42\"}",
        "{\"iss\":\"I\",\"sub\":\"42\"}",
        "{\"ns\":\"t1\",\"iss\":\"I\"}",
    };
    struct grant *g = parsed("{\"ns\":\"t1\",\"iss\":\"I\",\"sub\":\"42\"}");
    struct grant *same = parsed("{\"ns\":\"t1\",\"iss\":\"I\",\"sub\":\"42\",\"exp\":\"9\"}");
    struct grant *nobody = parsed("{\"ns\":\"t1\",\"iss\":\"I\"}");
    ck_assert(grant_is_same_subject(g, same));
    ck_assert(!grant_is_same_subject(nobody, nobody));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct grant *other = parsed(others[i]);
        ck_assert_msg(!grant_is_same_subject(g, other) && !grant_is_same_subject(other, g), "%s",
                      others[i]);
        grant_unref(other);
    }
    grant_unref(g);
    grant_unref(same);
    grant_unref(nobody);
}
END_TEST

/* --- which events are for it ------------------------------------------------------------------ */

static bool matches(const struct grant *g, const char *match)
{
    struct event *ev = event_make_for(1, NULL, "x", match);
    bool is_for_it = grant_matches(g, ev);
    event_unref(ev);
    return is_for_it;
}

START_TEST(test_an_event_is_for_a_grant_that_has_every_pair)
{
    struct grant *g = grant_of("user", "42", "org", "a", "org", "b", NULL);
    static const char *const own[] = {"{\"user\":\"42\"}", "{\"org\":\"a\"}", "{\"org\":\"b\"}",
                                      "{\"org\":\"b\",\"user\":\"42\"}"};
    static const char *const others[] = {"{\"user\":\"43\"}",
                                         "{\"user\":\"4\"}",
                                         "{\"user\":\"422\"}",
                                         "{\"user\":\"\"}",
                                         "{\"User\":\"42\"}",
                                         "{\"use\":\"42\"}",
                                         "{\"org\":\"c\"}",
                                         "{\"org\":\"a\",\"user\":\"43\"}",
                                         "{\"user\":\"42\",\"role\":\"x\"}",
                                         "{\"org\":\"42\"}"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        ck_assert_msg(matches(g, own[i]), "%s", own[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert_msg(!matches(g, others[i]), "%s", others[i]);
    ck_assert(matches(g, NULL));
    grant_unref(g);
}
END_TEST

START_TEST(test_what_cannot_be_read_is_for_nobody)
{
    static const char *const broken[] = {"",
                                         "{}",
                                         "[]",
                                         "null",
                                         "{\"\":\"\"}",
                                         "{\"user\":42}",
                                         "{\"user\":[\"42\"]}",
                                         "{\"user\":\"42\",\"user\":\"42\"}",
                                         "{\"user\":\"4\\u00002\"}",
                                         "{\"user\":\"42\""};
    struct grant *g = grant_of("user", "42", NULL);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        ck_assert_msg(!matches(g, broken[i]) && !matches(NULL, broken[i]), "%s", broken[i]);
    grant_unref(g);
}
END_TEST

START_TEST(test_without_a_grant_only_what_is_for_everybody)
{
    struct grant *none = parsed("{}");
    ck_assert(matches(NULL, NULL) && matches(none, NULL));
    ck_assert(!matches(NULL, "{\"user\":\"42\"}") && !matches(none, "{\"user\":\"42\"}"));
    grant_unref(none);
}
END_TEST

START_TEST(test_a_claim_keeps_so_many_values)
{
    struct grant_fields fields = {0};
    char value[8];
    for (int i = 0; i < GRANT_VALUES_MAX + 9; i++) {
        snprintf(value, sizeof(value), "%d", i % (GRANT_VALUES_MAX + 1));
        grant_claims_add(&fields.match, &fields.match_count, SLICE_LIT("a"), slice_of(value));
    }
    ck_assert_uint_eq(fields.match_count, 1);
    ck_assert_uint_eq(fields.match[0].values.count, GRANT_VALUES_MAX);
    grant_fields_reset(&fields);
}
END_TEST

/* --- how it travels --------------------------------------------------------------------------- */

#define ALL_OF_IT                                                                                  \
    "{\"ns\":\"t1\",\"iss\":\"https://idp.example\",\"sub\":\"\",\"jti\":\"j\\n\",\"kid\":\"k\","  \
    "\"iat\":\"1700000000\",\"exp\":\"18446744073709551615\",\"subscribe\":[\"a.*\",\">\"],"       \
    "\"publish\":[\"b\"],\"topics\":[\"a.b\"],\"match\":{\"org\":[\"a\",\"\"],\"none\":[]},"       \
    "\"roles\":{\"/roles\":[\"viewer\"],\"\":[\"x\"]},\"admin\":true,\"from_ticket\":true}"

START_TEST(test_all_of_it_comes_back)
{
    struct grant *g = parsed(ALL_OF_IT);
    const struct grant_fields *f = grant_fields(g);
    ck_assert_str_eq(written(g), ALL_OF_IT);
    ck_assert_str_eq(f->ns, "t1");
    ck_assert_str_eq(f->issuer, "https://idp.example");
    ck_assert_str_eq(f->subject, "");
    ck_assert_str_eq(f->jti, "j\n");
    ck_assert_str_eq(f->kid, "k");
    ck_assert(f->iat_s == 1700000000 && f->exp_s == UINT64_MAX);
    ck_assert(f->subscribe.count == 2 && f->publish.count == 1 && f->topics.count == 1);
    ck_assert(f->match_count == 2 && f->match[0].values.count == 2 && !f->match[1].values.count);
    ck_assert_uint_eq(f->role_count, 2);
    ck_assert(f->admin && f->from_ticket);
    grant_unref(g);
    g = parsed(" { } ");
    f = grant_fields(g);
    ck_assert_str_eq(written(g), "{}");
    ck_assert(!f->ns && !f->subject && !f->exp_s && !f->match_count && !f->admin);
    grant_unref(g);
}
END_TEST

START_TEST(test_what_is_no_grant)
{
    static const char *const wrong[] = {
        "",
        "[]",
        "null",
        "{",
        "{}x",
        "{\"ns\":\"a b\"}",
        "{\"ns\":\"\"}",
        "{\"ns\":null}",
        "{\"NS\":\"a\"}",
        "{\"sub\":1}",
        "{\"exp\":1}",
        "{\"exp\":\"\"}",
        "{\"exp\":\"-1\"}",
        "{\"exp\":\"1.5\"}",
        "{\"exp\":\"18446744073709551616\"}",
        "{\"subscribe\":\">\"}",
        "{\"subscribe\":[1]}",
        "{\"subscribe\":[\"a..b\"]}",
        "{\"subscribe\":[\"\"]}",
        "{\"subscribe\":{\"a\":\"b\"}}",
        "{\"match\":[]}",
        "{\"match\":{\"a\":\"x\"}}",
        "{\"match\":{\"a\":[1]}}",
        "{\"match\":{\"a\":{\"b\":\"c\"}}}",
        "{\"match\":{\"a\":[\"x\"],\"a\":[\"y\"]}}",
        "{\"roles\":{\"/r\":true}}",
        "{\"admin\":1}",
        "{\"admin\":\"true\"}",
        "{\"from_ticket\":null}",
        "{\"sub\":\"1\",\"sub\":\"1\"}",
        "{\"sub\":\"1\",\"s\\u0075b\":\"2\"}",
        "{\"unless\":\"it rains\"}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct grant *g = NULL;
        ck_assert_msg(grant_parse_json(slice_of(wrong[i]), &g) == ERR_INVALID, "%s", wrong[i]);
        ck_assert_ptr_null(g);
    }
}
END_TEST

START_TEST(test_too_many_values)
{
    for (int more = 0; more < 2; more++) {
        struct buf json = {0};
        struct grant *g = NULL;
        for (int i = 0; i < GRANT_VALUES_MAX + more; i++)
            buf_printf(&json, "%s\"%d\"", i ? "," : "{\"match\":{\"a\":[", i);
        buf_puts(&json, "]}}");
        ck_assert_int_eq(grant_parse_json(buf_slice(&json), &g), more ? ERR_INVALID : OK);
        grant_unref(g);
        buf_reset(&json);
    }
}
END_TEST

static void random_text(struct rng *rng, struct buf *b)
{
    static const char *const pieces[] = {"a", "\"", "\\", "\n", "\x7F", "\xC3\xA9", "{", ",", "42"};
    buf_clear(b);
    for (size_t n = rng_below(rng, 5); n; n--)
        buf_puts(b, pieces[rng_below(rng, sizeof pieces / sizeof *pieces)]);
}

static void random_claims(struct rng *rng, struct grant_claim **claims, size_t *count)
{
    struct buf name = {0}, value = {0};
    for (size_t n = rng_below(rng, 6); n; n--) {
        random_text(rng, &name);
        random_text(rng, &value);
        grant_claims_add(claims, count, buf_slice(&name), buf_slice(&value));
    }
    buf_reset(&name);
    buf_reset(&value);
}

static void random_names(struct rng *rng, struct strings *out)
{
    static const char *const names[] = {"a", "a.b", "a.*", ">", "*.b", "\xC3\xA9", "\"", "a.\\"};
    for (size_t n = rng_below(rng, 4); n; n--)
        strings_add(out, slice_of(names[rng_below(rng, sizeof names / sizeof *names)]));
}

static char *random_own(struct rng *rng)
{
    struct buf text = {0};
    random_text(rng, &text);
    char *own = rng_below(rng, 3) ? mem_dup(text.len ? text.ptr : "", text.len) : NULL;
    buf_reset(&text);
    return own;
}

START_TEST(test_any_grant_comes_back_as_it_was)
{
    struct rng rng = rng_seeded("grant");
    for (int round = 0; round < 2000; round++) {
        struct grant_fields f = {.ns = rng_below(&rng, 2) ? mem_dup("t-1", 3) : NULL,
                                 .issuer = random_own(&rng),
                                 .subject = random_own(&rng),
                                 .jti = random_own(&rng),
                                 .kid = random_own(&rng),
                                 .iat_s = rng_below(&rng, 3) ? rng_next(&rng) : 0,
                                 .exp_s = rng_below(&rng, 3) ? rng_next(&rng) : 0,
                                 .admin = rng_below(&rng, 2),
                                 .from_ticket = rng_below(&rng, 2)};
        random_names(&rng, &f.subscribe);
        random_names(&rng, &f.publish);
        random_names(&rng, &f.topics);
        random_claims(&rng, &f.match, &f.match_count);
        random_claims(&rng, &f.roles, &f.role_count);
        struct grant *g = grant_new(&f);
        ck_assert_ptr_null(f.match);
        char *text = strdup(written(g));
        struct grant *copy = parsed(text);
        ck_assert_str_eq(written(copy), text);
        const struct grant_fields *a = grant_fields(g), *b = grant_fields(copy);
        ck_assert(a->exp_s == b->exp_s && a->iat_s == b->iat_s && a->admin == b->admin &&
                  a->from_ticket == b->from_ticket && !a->subject == !b->subject);
        ck_assert(a->match_count == b->match_count && a->role_count == b->role_count);
        for (size_t i = 0; i < a->match_count; i++) {
            ck_assert_str_eq(a->match[i].name, b->match[i].name);
            ck_assert_uint_eq(a->match[i].values.count, b->match[i].values.count);
            for (size_t j = 0; j < a->match[i].values.count; j++)
                ck_assert_str_eq(a->match[i].values.items[j], b->match[i].values.items[j]);
        }
        free(text);
        grant_unref(g);
        grant_unref(copy);
    }
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("grant");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_what_is_requested_lies_within_one_granted_pattern);
    tcase_add_test(cases, test_two_granted_patterns_do_not_add_up);
    tcase_add_test(cases, test_an_empty_grant_allows_nothing);
    tcase_add_test(cases, test_a_ticket_only_reads);
    tcase_add_test(cases, test_the_same_subject);
    tcase_add_test(cases, test_an_event_is_for_a_grant_that_has_every_pair);
    tcase_add_test(cases, test_what_cannot_be_read_is_for_nobody);
    tcase_add_test(cases, test_without_a_grant_only_what_is_for_everybody);
    tcase_add_test(cases, test_a_claim_keeps_so_many_values);
    tcase_add_test(cases, test_all_of_it_comes_back);
    tcase_add_test(cases, test_what_is_no_grant);
    tcase_add_test(cases, test_too_many_values);
    tcase_add_test(cases, test_any_grant_comes_back_as_it_was);
    return tests_run(cases);
}
