/* SPDX-License-Identifier: Apache-2.0 */
/* From the text of a token or key to its grant. */
#include "relay/auth/auth.h"
#include "relay/kit/log.h"
#include "test/unit/auth_rig.h"
#include "test/unit/tests_run.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ISSUER(iss, namespaces)                                                                    \
    "{'iss': '" iss "', 'algs': ['HS256'], 'keys': 'secret', 'namespaces': " namespaces "}"

static void expect_ns(const struct auth *auth, const char *claims, const char *ns)
{
    struct grant *grant = auth_rig_grant(auth, claims);
    const char *got = grant_fields(grant)->ns;
    ck_assert_msg(ns ? got && strcmp(got, ns) == 0 : !got, "%s: %s", claims, got ? got : "none");
    grant_unref(grant);
}

/* Attack 4. */
START_TEST(test_namespaces_are_those_of_the_issuer)
{
    struct auth *auth = rig_auth("{'issuers': [" ISSUER("i", "['t1', 't3']") ", " ISSUER(
        "j", "['t2']") ", " ISSUER("k", "'*'") "]}");
    expect_ns(auth, "{'sse': {'ns': 't1'}}", "t1");
    expect_ns(auth, "{'sse': {'ns': 't3'}}", "t3");
    expect_ns(auth, "{'sse': {'ns': 't2'}}", NULL);
    expect_ns(auth, "{'sse': {'ns': 'default'}}", NULL);
    expect_ns(auth, "{}", NULL);
    expect_ns(auth, "{'iss': 'j'}", "t2");
    expect_ns(auth, "{'iss': 'j', 'sse': {'ns': 't1'}}", NULL);
    expect_ns(auth, "{'iss': 'j', 'sse': {'ns': ''}}", NULL);
    expect_ns(auth, "{'iss': 'j', 'sse': {'ns': null}}", NULL);
    expect_ns(auth, "{'iss': 'j', 'sse': {'ns': ['t2']}}", NULL);
    expect_ns(auth, "{'iss': 'k'}", NULL);
    expect_ns(auth, "{'iss': 'k', 'sse': {'ns': 'any'}}", "any");
    expect_ns(auth, "{'iss': 'k', 'sse': {'ns': 7}}", "7");
    expect_ns(auth, "{'iss': 'k', 'sse': {'ns': 'a.b'}}", NULL);
    expect_ns(auth, "{'iss': 'k', 'sse': {'ns': '*'}}", NULL);
    auth_unref(auth);
}
END_TEST

static void expect_admin(const struct auth *auth, const char *claims, bool admin)
{
    struct grant *grant = auth_rig_grant(auth, claims);
    ck_assert_msg(grant_fields(grant)->admin == admin, "%s", claims);
    grant_unref(grant);
}

/* Somebody of no namespace administrates all: no issuer of some may make him one. */
START_TEST(test_an_admin_of_all_is_of_an_issuer_for_all)
{
    struct auth *auth = rig_auth("{'issuers': [" ISSUER("i", "['t1', 't3']") ", " ISSUER(
        "k", "'*'") "], 'rules': [{'if': {'/r': 1}, 'admin': true}]}");
    expect_admin(auth, "{'sse': {'ns': 't1', 'admin': true}}", true);
    expect_admin(auth, "{'sse': {'admin': true}}", false);
    expect_admin(auth, "{'sse': {'ns': 't2', 'admin': true}}", false);
    expect_admin(auth, "{'sse': {'ns': 'a.b', 'admin': true}}", false);
    expect_admin(auth, "{'r': 1}", false);
    expect_admin(auth, "{'iss': 'k', 'sse': {'admin': true}}", true);
    expect_admin(auth, "{'iss': 'k', 'r': 1}", true);
    expect_admin(auth, "{'iss': 'k', 'sse': {'ns': 'a.b', 'admin': true}}", false);
    auth_unref(auth);
}
END_TEST

START_TEST(test_a_grant_has_all_of_its_token)
{
    struct auth *auth = rig_auth_with(
        "'routes': [{'path': '/r', 'topics': ['a'], 'require': {'/roles': 'x', '/n': 1}}]");
    struct grant *grant = auth_rig_grant(auth, "{'sub': '42', 'jti': 'j', 'iat': 1799999990, "
                                               "'exp': 1800000100, 'roles': ['x', 'y'], 'n': 1, "
                                               "'sse': {'subscribe': ['orders.*'], 'publish': "
                                               "['orders.>'], 'match': {'user_id': '42'}}}");
    const struct grant_fields *f = grant_fields(grant);
    ck_assert_str_eq(f->issuer, "i");
    ck_assert_str_eq(f->subject, "42");
    ck_assert_str_eq(f->jti, "j");
    ck_assert_str_eq(f->kid, "k1");
    ck_assert_str_eq(f->ns, "t1");
    ck_assert_uint_eq(f->iat_s, 1799999990);
    ck_assert_uint_eq(f->exp_s, 1800000100);
    ck_assert(!f->admin && !f->from_ticket);
    ck_assert_uint_eq(f->role_count, 2);
    ck_assert_str_eq(f->roles[0].name, "/roles");
    rig_expect(&f->roles[0].values, "x y");
    rig_expect(&f->roles[1].values, "1");
    ck_assert(grant_may_subscribe(grant, SLICE_LIT("orders.eu")));
    ck_assert(!grant_may_subscribe(grant, SLICE_LIT("orders.>")));
    ck_assert(grant_may_publish(grant, SLICE_LIT("orders.eu.x")));
    grant_unref(grant);
    grant = auth_rig_grant(auth, "{}");
    f = grant_fields(grant);
    ck_assert(!f->subject && !f->jti && !f->iat_s);
    ck_assert_uint_eq(f->subscribe.count + f->role_count, 0);
    grant_unref(grant);
    auth_unref(auth);
}
END_TEST

START_TEST(test_rules_are_for_tokens_that_say_nothing)
{
    struct auth *auth = rig_auth_with("'rules': [{'subscribe': ['rule.{sub}']}]");
    struct grant *grant = auth_rig_grant(auth, "{'sub': 's', 'sse': {'ns': 't1'}}");
    rig_expect(&grant_fields(grant)->subscribe, "rule.s");
    grant_unref(grant);
    grant = auth_rig_grant(auth, "{'sub': 's', 'sse': {'publish': ['p']}}");
    rig_expect(&grant_fields(grant)->subscribe, "");
    rig_expect(&grant_fields(grant)->publish, "p");
    grant_unref(grant);
    auth_unref(auth);
}
END_TEST

/* Attack 18, to the end: what is granted is that one topic. */
START_TEST(test_subjects_open_their_own_topic_only)
{
    struct auth *auth = rig_auth_with("");
    struct grant *grant =
        auth_rig_grant(auth, "{'sub': '*', 'sse': {'subscribe': ['user.{sub}', 'u.{/none}']}}");
    ck_assert(grant_may_subscribe(grant, SLICE_LIT("user.%2A")));
    ck_assert(!grant_may_subscribe(grant, SLICE_LIT("user.*")));
    ck_assert(!grant_may_subscribe(grant, SLICE_LIT("user.43")));
    ck_assert(!grant_may_subscribe(grant, SLICE_LIT("u.x")));
    grant_unref(grant);
    auth_unref(auth);
}
END_TEST

/* --- refusals --------------------------------------------------------------------------------- */

static void expect_denied(const struct auth *auth, const char *text, bool is_signed,
                          const char *reason)
{
    struct auth_refusal refusal;
    struct grant *grant = NULL;
    memset(&refusal, 'x', sizeof refusal);
    ck_assert_int_eq(rig_verify(auth, text, &grant, &refusal), ERR_DENIED);
    ck_assert_ptr_null(grant);
    ck_assert_int_eq(refusal.is_signed, is_signed);
    rig_expect_parts(slice_of(refusal.reason), reason);
    ck_assert_uint_lt(strlen(refusal.issuer), sizeof refusal.issuer);
    ck_assert_uint_lt(strlen(refusal.kid), sizeof refusal.kid);
    ck_assert_uint_lt(strlen(refusal.subject), sizeof refusal.subject);
    ck_assert(!slice_has_control(slice_of(refusal.subject)));
}

static void expect_claims_denied(const struct auth *auth, const char *claims, bool is_signed,
                                 const char *reason)
{
    char *token = rig_token(claims);
    expect_denied(auth, token, is_signed, reason);
    free(token);
}

START_TEST(test_refusals)
{
    struct auth *auth = rig_auth_with("");
    expect_denied(auth, "", false, "");
    expect_denied(auth, "a.b.c", false, "");
    expect_claims_denied(auth, "{'iss': 'other'}", false, "iss");
    expect_claims_denied(auth, "{'iss': 7}", false, "iss");
    expect_claims_denied(auth, "{'exp': 1799999000}", true, "expired");
    expect_claims_denied(auth, "{'exp': 1800000000000}", true, "max_token_life");
    expect_claims_denied(auth, "{'exp': 1799999000, 'sub': '\\u0007\\u009b1m'}", true, "expired");
    char *token = rig_token("{}");
    token[strlen(token) - 2] ^= 1;
    expect_denied(auth, token, false, "");
    free(token);
    /* Within the leeway it counts. */
    struct grant *grant = auth_rig_grant(auth, "{'exp': 1799999980}");
    grant_unref(grant);
    auth_unref(auth);
}
END_TEST

START_TEST(test_who_was_refused)
{
    struct auth *auth = rig_auth_with("");
    struct auth_refusal refusal = {0};
    struct grant *grant = NULL;
    char *token = rig_token("{'exp': 1, 'sub': 'a\\nb\\u009bc\\u00e9'}");
    ck_assert_int_eq(rig_verify(auth, token, &grant, &refusal), ERR_DENIED);
    ck_assert_str_eq(refusal.issuer, "i");
    ck_assert_str_eq(refusal.kid, "k1");
    ck_assert_str_eq(refusal.subject, "a?b?c\xC3\xA9");
    free(token);
    auth_unref(auth);
}
END_TEST

/* The operator hears of it, once for each issuer, and never the token. */
START_TEST(test_claims_that_grant_nothing_are_logged_once)
{
    struct auth *auth =
        rig_auth("{'issuers': [" ISSUER("i", "['t1']") ", " ISSUER("j", "['t1']") "]}");
    FILE *file = tmpfile();
    char text[4096];
    log_setup(LOG_INFO, LOG_LOGFMT);
    ck_assert_int_ge(dup2(fileno(file), STDERR_FILENO), 0);
    grant_unref(auth_rig_grant(auth, "{'sse': {'subscribe': ['fine']}}"));
    ck_assert_int_eq(lseek(fileno(file), 0, SEEK_END), 0);
    grant_unref(auth_rig_grant(auth, "{'sse': {'subscribe': ['a..b', 'c d']}}"));
    grant_unref(auth_rig_grant(auth, "{'sse': {'subscribe': ['e..f']}}"));
    grant_unref(auth_rig_grant(auth, "{'iss': 'j', 'sse': {'subscribe': ['g..h']}}"));
    ssize_t len = pread(fileno(file), text, sizeof text, 0);
    ck_assert_int_gt(len, 0);
    struct slice all = {text, (size_t)len};
    rig_expect_parts(all, "issuer=i|/sse/subscribe[0]: a..b: it is no pattern|issuer=j|g..h");
    ck_assert_ptr_null(memmem(text, all.len, "e..f", 4));
    ck_assert_ptr_null(memmem(text, all.len, "eyJ", 3));
    fclose(file);
    auth_unref(auth);
}
END_TEST

/* --- static keys ------------------------------------------------------------------------------ */

#define KEYS                                                                                       \
    "'keys': [{'name': 'billing', 'sha256': "                                                      \
    "'2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b', 'ns': 't1', 'publish': "  \
    "['orders.>'], 'match': {'a': 'b'}}, {'name': 'scraper', 'sha256': "                           \
    "'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'admin': true}]"

START_TEST(test_static_keys)
{
    struct auth *auth = rig_auth_with(KEYS);
    struct auth_refusal refusal;
    struct grant *grant = NULL;
    ck_assert_int_eq(rig_verify(auth, "secret", &grant, &refusal), OK);
    const struct grant_fields *f = grant_fields(grant);
    ck_assert_str_eq(f->subject, "key:billing");
    ck_assert_str_eq(f->ns, "t1");
    ck_assert(grant_may_publish(grant, SLICE_LIT("orders.x")));
    ck_assert(!grant_may_subscribe(grant, SLICE_LIT("orders.x")));
    ck_assert(!f->admin && !f->exp_s && !f->issuer);
    grant_unref(grant);
    ck_assert_int_eq(rig_verify(auth, "abc", &grant, &refusal), OK);
    ck_assert(grant_fields(grant)->admin && !grant_fields(grant)->ns);
    grant_unref(grant);
    expect_denied(auth, "Secret", false, "");
    expect_denied(auth, "secret ", false, "");
    auth_unref(auth);
}
END_TEST

/* --- for people ------------------------------------------------------------------------------- */

static void expect_explained(const struct auth *auth, const char *text, bool accepted,
                             const char *parts)
{
    struct buf out = {0};
    ck_assert_int_eq(auth_explain(auth, slice_of(text), rig_now_s, &out), accepted);
    rig_expect_parts(buf_slice(&out), parts);
    ck_assert_ptr_null(memmem(out.ptr, out.len, text, strlen(text)));
    for (size_t i = 0; i < out.len; i++)
        ck_assert(out.ptr[i] == '\n' || (unsigned char)out.ptr[i] >= ' ');
    buf_reset(&out);
}

static void expect_claims_explained(const struct auth *auth, const char *claims, bool accepted,
                                    const char *parts)
{
    char *token = rig_token(claims);
    expect_explained(auth, token, accepted, parts);
    free(token);
}

START_TEST(test_explain)
{
    struct auth *auth = rig_auth_with(
        KEYS ", 'rules': [{'subscribe': ['rule.{sub}', 'x.{/no}']}, {'if': {'/r': 1}, 'admin': "
             "true}], 'routes': [{'path': '/r', 'topics': ['a'], 'require': {'/r': 1}, 'grants': "
             "true}]");
    expect_claims_explained(auth, "{'sub': 's\\u001b[2J'}", true,
                            "accepted: |issuer      i\n|known as    issuers[0]|algorithm   HS256|"
                            "key id      k1|subject     s?[2J\n|expires     2027-01-15T08:05:00Z|"
                            "namespace   t1  (the only one of its issuer)|"
                            "subscribe   rule.s%1B[2J  (rules[0].subscribe[0])|"
                            "nothing     x.{/no}  (rules[0].subscribe[1]: {/no}: the token has no|"
                            "rule        (rules[1]: does not apply: the token has no /r)|"
                            "route       /r  (closed: /r has none");
    expect_claims_explained(auth, "{'r': 1, 'sse': {'ns': 't2', 'subscribe': 'a b..c'}}", true,
                            "namespace   none  (/sse/ns: its issuer may not speak for it)|"
                            "subscribe   a  (/sse/subscribe)|nothing     b..c  (/sse/subscribe: |"
                            "rules       not asked|route       /r  (open)");
    expect_claims_explained(auth, "{'exp': 5, 'sse': {'publish': ['a']}}", false,
                            "refused: its signature is right, but it has expired|publish     a");
    expect_claims_explained(auth, "{'iss': 'x', 'sub': 's'}", false,
                            "refused: its iss is that of no issuer|anybody can have written|"
                            "subject     s");
    expect_explained(auth, "junk", false, "refused: ");
    expect_explained(auth, "secret", true,
                     "accepted: it is a static key\n|key         billing  "
                     "(keys[0])|publish     orders.>  (keys[0].publish[0])");
    auth_unref(auth);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("auth");
    log_setup(LOG_ERROR, LOG_LOGFMT);
    tcase_add_test(tests, test_namespaces_are_those_of_the_issuer);
    tcase_add_test(tests, test_an_admin_of_all_is_of_an_issuer_for_all);
    tcase_add_test(tests, test_a_grant_has_all_of_its_token);
    tcase_add_test(tests, test_rules_are_for_tokens_that_say_nothing);
    tcase_add_test(tests, test_subjects_open_their_own_topic_only);
    tcase_add_test(tests, test_refusals);
    tcase_add_test(tests, test_who_was_refused);
    tcase_add_test(tests, test_claims_that_grant_nothing_are_logged_once);
    tcase_add_test(tests, test_static_keys);
    tcase_add_test(tests, test_explain);
    return tests_run(tests);
}
