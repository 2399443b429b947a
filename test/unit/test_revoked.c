/* SPDX-License-Identifier: Apache-2.0 */
/* What was revoked: who is meant, until when, and that nothing is forgotten silently. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/hash.h"
#include "common/mem.h"
#include "relay/core/revoked.h"
#include "test/unit/tests_run.h"

static struct revoked *revoked;
static const struct slice NS = {"t1", 2};

static void setup(void)
{
    hash_seed_init();
    revoked = revoked_new();
}

static void teardown(void)
{
    revoked_free(revoked);
}

static char *copy(const char *text)
{
    return text ? mem_dup(text, strlen(text)) : NULL;
}

static struct grant *grant(const char *ns, const char *subject, const char *jti, const char *kid,
                           uint64_t iat_s)
{
    struct grant_fields fields = {.ns = copy(ns),
                                  .subject = copy(subject),
                                  .jti = copy(jti),
                                  .kid = copy(kid),
                                  .iat_s = iat_s};
    return grant_new(&fields);
}

static void revoke(enum revoked_kind kind, const char *value, uint64_t before_s, uint64_t expires_s)
{
    struct revoked_entry entry = {kind, copy(value), before_s, expires_s};
    ck_assert_int_eq(revoked_add(revoked, NS, &entry), OK);
    revoked_entry_reset(&entry);
}

/* Asks both: the table, and the entries alone. Takes over @g. */
static bool has(struct grant *g)
{
    bool found = revoked_has(revoked, g);
    grant_unref(g);
    return found;
}

static bool concerns(enum revoked_kind kind, const char *value, uint64_t before_s, struct grant *g)
{
    struct revoked_entry entry = {kind, copy(value), before_s, 0};
    bool found = revoked_entry_concerns(&entry, g);
    revoked_entry_reset(&entry);
    grant_unref(g);
    return found;
}

START_TEST(test_each_kind_means_its_own_claim)
{
    static const char *const values[REVOKED_KINDS] = {"a", "b", "c"};
    for (int k = 0; k < REVOKED_KINDS; k++)
        revoke((enum revoked_kind)k, values[k], 100, 0);
    ck_assert(has(grant("t1", NULL, "a", NULL, 500)));
    ck_assert(has(grant("t1", "b", NULL, NULL, 100)));
    ck_assert(has(grant("t1", NULL, NULL, "c", 500)));
    ck_assert(!has(grant("t1", "a", "b", "a", 1)));
    ck_assert(!has(grant("t1", "c", "c", "b", 1)));
    ck_assert(!has(grant("t1", NULL, NULL, NULL, 0)));
    ck_assert(concerns(REVOKED_JTI, "a", 0, grant("t1", NULL, "a", NULL, 500)));
    ck_assert(concerns(REVOKED_KID, "c", 0, grant("t1", NULL, NULL, "c", 500)));
    ck_assert(!concerns(REVOKED_KID, "c", 0, grant("t1", "c", "c", NULL, 500)));
}
END_TEST

START_TEST(test_of_a_subject_only_what_was_issued_by_then)
{
    revoke(REVOKED_SUBJECT, "42", 100, 0);
    ck_assert(has(grant("t1", "42", NULL, NULL, 99)));
    ck_assert(has(grant("t1", "42", NULL, NULL, 100)));
    ck_assert(!has(grant("t1", "42", NULL, NULL, 101)));
    ck_assert(has(grant("t1", "42", NULL, NULL, 0))); /* it does not say when */
    ck_assert(!has(grant("t1", "43", NULL, NULL, 99)));
    ck_assert(concerns(REVOKED_SUBJECT, "42", 100, grant("t1", "42", NULL, NULL, 100)));
    ck_assert(!concerns(REVOKED_SUBJECT, "42", 100, grant("t1", "42", NULL, NULL, 101)));
    ck_assert(concerns(REVOKED_SUBJECT, "42", 100, grant("t1", "42", NULL, NULL, 0)));
    revoke(REVOKED_SUBJECT, "42", 50, 0); /* the later one counts */
    ck_assert(has(grant("t1", "42", NULL, NULL, 100)));
    revoke(REVOKED_SUBJECT, "42", 200, 0);
    ck_assert(has(grant("t1", "42", NULL, NULL, 150)));
}
END_TEST

START_TEST(test_namespaces_are_apart)
{
    revoke(REVOKED_SUBJECT, "42", 100, 0);
    ck_assert(!has(grant("t2", "42", NULL, NULL, 1)));
    ck_assert(!has(grant(NULL, "42", NULL, NULL, 1)));
    ck_assert(!revoked_is_known(revoked, NS)); /* one entry is not all */
    revoked_set_known(revoked, NS, true);
    ck_assert(revoked_is_known(revoked, NS));
    ck_assert(!revoked_is_known(revoked, SLICE_LIT("t2")));
    ck_assert(has(grant("t1", "42", NULL, NULL, 1)));
    revoked_set_known(revoked, NS, false);
    revoked_set_known(revoked, SLICE_LIT("t2"), false);
    ck_assert(!revoked_is_known(revoked, NS));
    ck_assert(!has(grant("t1", "42", NULL, NULL, 1)));
}
END_TEST

START_TEST(test_what_expired_goes_and_the_rest_stays)
{
    revoke(REVOKED_JTI, "old", 0, 1000);
    revoke(REVOKED_JTI, "young", 0, 2000);
    revoke(REVOKED_JTI, "eternal", 0, 0);
    revoke(REVOKED_JTI, "prolonged", 0, 1000);
    revoke(REVOKED_JTI, "prolonged", 0, 3000);
    revoke(REVOKED_JTI, "for ever", 0, 1000);
    revoke(REVOKED_JTI, "for ever", 0, 0);
    revoke(REVOKED_JTI, "for ever", 0, 1000);
    revoked_expire(revoked, 1000);
    ck_assert(has(grant("t1", NULL, "old", NULL, 0)));
    revoked_expire(revoked, 1001);
    ck_assert(!has(grant("t1", NULL, "old", NULL, 0)));
    ck_assert(has(grant("t1", NULL, "young", NULL, 0)));
    revoked_expire(revoked, 2999);
    ck_assert(!has(grant("t1", NULL, "young", NULL, 0)));
    ck_assert(has(grant("t1", NULL, "prolonged", NULL, 0)));
    revoked_expire(revoked, UINT64_MAX);
    ck_assert(!has(grant("t1", NULL, "prolonged", NULL, 0)));
    ck_assert(has(grant("t1", NULL, "eternal", NULL, 0)));
    ck_assert(has(grant("t1", NULL, "for ever", NULL, 0)));
}
END_TEST

static char *numbered(unsigned i)
{
    static char text[16];
    snprintf(text, sizeof(text), "j%u", i);
    return text;
}

START_TEST(test_very_many_are_found_and_beyond_the_bound_nothing_is_known)
{
    struct revoked_entry entry = {.kind = REVOKED_JTI, .expires_s = 10};
    revoked_set_known(revoked, NS, true);
    for (unsigned i = 0; i < 2 * REVOKED_MAX; i++) {
        entry.value = numbered(i);
        entry.expires_s = i % 2 ? 10 : 20;
        ck_assert_int_eq(revoked_add(revoked, NS, &entry), OK);
    }
    for (unsigned i = 0; i < 2 * REVOKED_MAX; i += 997)
        ck_assert(has(grant("t1", NULL, numbered(i), NULL, 0)));
    ck_assert(!has(grant("t1", NULL, numbered(2 * REVOKED_MAX), NULL, 0)));
    revoked_expire(revoked, 15);
    for (unsigned i = 0; i < 2 * REVOKED_MAX; i += 997)
        ck_assert_int_eq(has(grant("t1", NULL, numbered(i), NULL, 0)), i % 2 == 0);
    for (unsigned i = 1; i < 2 * REVOKED_MAX; i += 2) {
        entry.value = numbered(i);
        ck_assert_int_eq(revoked_add(revoked, NS, &entry), OK);
    }
    ck_assert(revoked_is_known(revoked, NS));
    entry.value = numbered(2 * REVOKED_MAX);
    ck_assert_int_eq(revoked_add(revoked, NS, &entry), ERR_FULL);
    ck_assert(!revoked_is_known(revoked, NS));
}
END_TEST

START_TEST(test_entries_are_made_of_what_redis_says)
{
    static const struct {
        const char *kind, *value, *before, *expires;
        bool valid;
    } cases[] = {{"jti", "a", "0", "0", true},   {"sub", "a b", "5", "18446744073709551615", true},
                 {"kid", "k", "0", "7", true},   {"", "a", "0", "0", false},
                 {"SUB", "a", "0", "0", false},  {"subs", "a", "0", "0", false},
                 {"sub", "", "0", "0", false},   {"sub", "a", "", "0", false},
                 {"sub", "a", "-1", "0", false}, {"sub", "a", "0", "1e9", false},
                 {"sub", "a", NULL, "0", false}, {NULL, "a", "0", "0", false},
                 {"sub", NULL, "0", "0", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct revoked_entry entry = {0};
        enum err e =
            revoked_entry_make(slice_of(cases[i].kind), slice_of(cases[i].value),
                               slice_of(cases[i].before), slice_of(cases[i].expires), &entry);
        ck_assert_int_eq(e == OK, cases[i].valid);
        if (e == OK)
            ck_assert_str_eq(entry.value, cases[i].value);
        revoked_entry_reset(&entry);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("revoked");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_each_kind_means_its_own_claim);
    tcase_add_test(tests, test_of_a_subject_only_what_was_issued_by_then);
    tcase_add_test(tests, test_namespaces_are_apart);
    tcase_add_test(tests, test_what_expired_goes_and_the_rest_stays);
    tcase_add_test(tests, test_very_many_are_found_and_beyond_the_bound_nothing_is_known);
    tcase_add_test(tests, test_entries_are_made_of_what_redis_says);
    return tests_run(tests);
}
