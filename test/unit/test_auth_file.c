/* SPDX-License-Identifier: Apache-2.0 */
/* What the auth file may say, and the sentence for everything that is wrong in it. */
#include "relay/auth/auth_file.h"
#include "test/unit/auth_rig.h"
#include "test/unit/tests_run.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ISSUER "'algs': ['HS256'], 'keys': 'secret', 'namespaces': ['t1']"

static void expect_refused(const char *text, const char *parts)
{
    char *why = rig_refusal(text);
    rig_expect_parts(slice_of(why), parts);
    rig_expect_parts(slice_of(why), "auth.file /tmp/");
    free(why);
}

static void expect_issuer_refused(const char *members, const char *parts)
{
    struct buf text = {0};
    buf_printf(&text, "{'issuers': [{%s}]}", members);
    buf_putc(&text, '\0');
    expect_refused(text.ptr, parts);
    buf_reset(&text);
}

START_TEST(test_everything_at_once)
{
    struct auth *auth = rig_auth(
        "{ // who may\n"
        "  'issuers': [ { 'iss': 'https://idp.example/realms/shop', 'aud': 'sse-relay', 'algs': "
        "['HS256'], 'keys': 'secret', 'namespaces': ['shop'], 'exp': 'optional', 'typ': 'at+jwt', "
        "'aud_claim': '/client_id', 'claims': { 'ns': '/tenant' } }, { 'iss': 'b', " ISSUER
        ", 'claims': 'mercure' }, { 'iss': 'c', 'algs': 'HS256', 'keys': 'secret', 'namespaces': "
        "'*' } ],\n"
        "  /* rules */ 'rules': [ { 'if': { '/roles': 'x' }, 'subscribe': ['item.*'] } ],\n"
        "  'keys': [ { 'name': 'billing', 'sha256': "
        "'2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B', 'ns': 'shop', "
        "'publish': ['orders.>'] } ],\n"
        "  'anonymous': { 'ns': 'shop', 'subscribe': ['status.*'] },\n"
        "  'routes': [ { 'path': '/api/events', 'topics': ['item.*'], 'require': { '/r': 'v' }, "
        "'grants': true } ], 'events': false }");
    ck_assert(!auth_serves_events(auth));
    const struct grant_fields *anonymous = grant_fields(auth_anonymous(auth));
    ck_assert_str_eq(anonymous->ns, "shop");
    rig_expect(&anonymous->subscribe, "status.*");
    ck_assert_ptr_null(anonymous->subject);
    rig_expect(route_map_pointers(auth_routes(auth)), "/r");
    ck_assert_uint_eq(auth_files(auth)->count, 2);
    ck_assert_ptr_nonnull(strstr(auth_files(auth)->items[0], "/auth.json"));
    ck_assert_ptr_nonnull(strstr(auth_files(auth)->items[1], "/secret"));
    auth_unref(auth_ref(auth));
    auth_unref(auth);
}
END_TEST

START_TEST(test_least)
{
    struct auth *auth = rig_auth_with("");
    ck_assert(auth_serves_events(auth));
    ck_assert_ptr_null(auth_anonymous(auth));
    auth_unref(auth);
    auth = rig_auth("{'anonymous': {'ns': 'x', 'subscribe': ['a']}}");
    ck_assert_uint_eq(auth_files(auth)->count, 1);
    auth_unref(auth);
}
END_TEST

START_TEST(test_refuses_files)
{
    expect_refused("", "line 1: not valid JSON");
    expect_refused("{'issuers': [\n\n}", "line 3: not valid JSON");
    expect_refused("{\n/* ", "line 2: a comment without an end");
    expect_refused("[]", "the file: expected an object");
    expect_refused("{}", "the file: expected issuers, keys or anonymous");
    expect_refused("{'issuers': []}", "expected issuers, keys or anonymous");
    expect_refused("{'issuer': []}", "issuer: unknown: did you mean \"issuers\"?");
    expect_refused("{'webhook': {}}", "webhook: unknown; expected issuers, rules, keys, anonymous, "
                                      "routes, events");
    expect_refused("{'limits': {}}", "limits: unknown");
    expect_refused("{'rules': [], 'rules': []}", "rules: stands twice");
    expect_refused("{'anonymous': {'ns': 'x'}, 'events': 1}", "events: expected true or false");
    expect_refused("{'routes': [{'path': '/x', 'topics': ['a'], 'public': true, 'grants': true}], "
                   "'issuers': [{'iss': 'i', " ISSUER "}]}",
                   "routes: a public route needs anonymous");
}
END_TEST

START_TEST(test_refuses_issuers)
{
    expect_refused("{'issuers': {}}", "issuers: expected a list");
    expect_refused("{'issuers': ['x']}", "issuers[0]: expected an object");
    expect_issuer_refused("'iss': 'x'", "issuers[0].algs: expected the algorithms|HS256");
    expect_issuer_refused("'algs': []", "issuers[0].algs: expected one at least");
    expect_issuer_refused("'algs': ['HS256', 'none']", "issuers[0].algs[1]: expected HS256");
    expect_issuer_refused("'algs': 'hs256'", "issuers[0].algs: expected HS256");
    expect_issuer_refused("'algs': [5]", "issuers[0].algs[0]: expected a text");
    expect_issuer_refused("'algs': ['HS256'], 'keys': 'secret'",
                          "issuers[0].namespaces: expected the namespaces");
    expect_issuer_refused("'algs': ['HS256'], 'namespaces': ['a.b']",
                          "issuers[0].namespaces[0]: expected namespaces");
    expect_issuer_refused("'algs': ['HS256'], 'namespaces': ['a', '*']",
                          "issuers[0].namespaces: expected \"*\" to stand alone");
    expect_issuer_refused("'algs': ['HS256'], 'namespaces': ['a']",
                          "issuers[0].keys: expected the path");
    expect_issuer_refused("'algs': ['HS256'], 'namespaces': ['a'], 'keys': 'nowhere'",
                          "issuers[0].keys: cannot read /tmp/|/nowhere: No such file");
    expect_issuer_refused("'algs': ['HS512'], 'namespaces': ['a'], 'keys': 'secret'",
                          "issuers[0].keys: |HS512");
    expect_issuer_refused("'algs': ['RS256'], 'namespaces': ['a'], 'keys': 'secret'",
                          "issuers[0].keys: ");
    expect_issuer_refused(ISSUER ", 'exp': 'never'", "issuers[0].exp: expected \"optional\"");
    expect_issuer_refused(ISSUER ", 'exp': false", "issuers[0].exp: expected a text");
    expect_issuer_refused(ISSUER ", 'typ': 'JWT'", "issuers[0].typ: expected \"at+jwt\"");
    expect_issuer_refused(ISSUER ", 'aud_claim': '/c'", "issuers[0].aud_claim: expected aud");
    expect_issuer_refused(ISSUER ", 'aud': 'a', 'aud_claim': 'c'",
                          "issuers[0].aud_claim: expected a JSON Pointer");
    expect_issuer_refused(ISSUER ", 'aud': ['a']", "issuers[0].aud: expected a text");
    expect_issuer_refused(ISSUER ", 'iss': ''", "issuers[0].iss: expected a text");
    expect_issuer_refused(ISSUER ", 'iss': 'a\\u0000b'", "issuers[0].iss: expected a text");
    expect_issuer_refused(ISSUER ", 'namespace': 'x'", "did you mean \"namespaces\"?");
    expect_issuer_refused(ISSUER ", 'jwks_url': 'https://x'", "issuers[0].jwks_url: unknown");
    expect_issuer_refused(ISSUER ", 'discover': true", "issuers[0].discover: unknown");
    expect_issuer_refused(ISSUER ", 'claims': 'other'",
                          "issuers[0].claims: expected \"centrifugo\"");
    expect_issuer_refused(ISSUER ", 'claims': {'nss': '/x'}", "claims.nss: unknown: did you mean");
    expect_issuer_refused(ISSUER ", 'claims': {'ns': 'x'}", "claims.ns: expected a JSON Pointer");
    expect_issuer_refused(ISSUER ", 'claims': {'ns': '/a~'}", "claims.ns: expected a JSON Pointer");
}
END_TEST

START_TEST(test_issuers_have_names_of_their_own)
{
    expect_refused("{'issuers': [{'iss': 'a', " ISSUER "}, {'iss': 'b', " ISSUER
                   "}, {'iss': 'a', " ISSUER "}]}",
                   "issuers[2].iss: issuers[0] has the same");
    expect_refused("{'issuers': [{'iss': 'a', " ISSUER "}, {" ISSUER "}]}",
                   "issuers[1].iss: expected one where there are several");
}
END_TEST

START_TEST(test_refuses_rules)
{
#define RULE(text) "{'anonymous': {'ns': 'x'}, 'rules': [{'subscribe': ['a']}, " text "]}"
    expect_refused("{'rules': 5}", "rules: expected a list");
    expect_refused(RULE("5"), "rules[1]: expected an object");
    expect_refused(RULE("{}"), "rules[1]: it grants nothing");
    expect_refused(RULE("{'if': {}}"), "rules[1]: it grants nothing");
    expect_refused(RULE("{'subscribe': []}"), "rules[1]: it grants nothing");
    expect_refused(RULE("{'subscribe': 'a'}"), "rules[1].subscribe: expected a list");
    expect_refused(RULE("{'subscribe': [1]}"), "rules[1].subscribe[0]: expected a topic");
    expect_refused(RULE("{'subscribe': ['a', 'x{sub}']}"),
                   "rules[1].subscribe[1]: expected {…} to be a whole token");
    expect_refused(RULE("{'subscribe': ['a'], 'ns': 'x'}"), "rules[1].ns: unknown");
    expect_refused(RULE("{'if': [], 'admin': true}"), "rules[1].if: expected an object");
    expect_refused(RULE("{'if': {'roles': 'x'}, 'admin': true}"),
                   "rules[1].if.roles: expected a JSON Pointer");
    expect_refused(RULE("{'if': {'/roles': []}, 'admin': true}"),
                   "rules[1].if./roles: expected a text");
    expect_refused(RULE("{'if': {'/roles': null}, 'admin': true}"), "rules[1].if./roles: expected");
    expect_refused(RULE("{'if': {'/roles': [['x']]}, 'admin': true}"),
                   "rules[1].if./roles: expected");
    expect_refused(RULE("{'match': []}"), "rules[1].match: expected an object");
    expect_refused(RULE("{'match': {'a': {}}}"), "rules[1].match.a: expected a text");
    expect_refused(RULE("{'match': {'a': ['x', {}]}}"), "rules[1].match.a[1]: expected a text");
    expect_refused(RULE("{'match': {'a': 'x{sub}'}}"), "rules[1].match.a: expected {name}");
    expect_refused(RULE("{'match': {'a': '{/x~}'}}"), "rules[1].match.a: expected {name}");
    expect_refused(RULE("{'match': {'a': '{}'}}"), "rules[1].match.a: expected {name}");
    expect_refused(RULE("{'match': {'': 'x'}}"), "rules[1].match: expected names");
    expect_refused(RULE("{'admin': 1}"), "rules[1].admin: expected true or false");
}
END_TEST

START_TEST(test_refuses_keys_and_anonymous)
{
#define DIGITS "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25"
#define KEY(text) "{'keys': [{'name': 'a', 'sha256': '" DIGITS "b', 'admin': true}, {" text "}]}"
    expect_refused("{'keys': {}}", "keys: expected a list");
    expect_refused(KEY(""), "keys[1].sha256: expected the SHA-256 of the key");
    expect_refused(KEY("'sha256': '" DIGITS "'"), "keys[1].sha256: expected");
    expect_refused(KEY("'sha256': '" DIGITS "g'"), "keys[1].sha256: expected");
    expect_refused(KEY("'sha256': '" DIGITS "bb'"), "keys[1].sha256: expected");
    expect_refused(KEY("'sha256': '" DIGITS "c'"), "keys[1]: expected a name");
    expect_refused(KEY("'name': 'a', 'sha256': '" DIGITS "c'"),
                   "keys[1]: keys[0] has the same name");
    expect_refused(KEY("'name': 'b', 'sha256': '" DIGITS "B'"), "keys[1]: keys[0] is the same key");
    expect_refused(KEY("'name': 'b', 'sha256': '" DIGITS "c', 'publish': ['a']"),
                   "keys[1]: expected ns");
    expect_refused(KEY("'name': 'b', 'sha256': '" DIGITS "c', 'ns': 'a b', 'publish': ['a']"),
                   "keys[1].ns: expected 1 to 64");
    expect_refused(KEY("'name': 'b', 'sha256': '" DIGITS "c', 'ns': 'a', 'publish': ['{sub}']"),
                   "keys[1].publish[0]: there are no claims here");
    expect_refused(KEY("'name': 'b', 'key': 'x'"), "keys[1].key: unknown");
    expect_refused("{'anonymous': []}", "anonymous: expected an object");
    expect_refused("{'anonymous': {'subscribe': ['a']}}", "anonymous.ns: expected the namespace");
    expect_refused("{'anonymous': {'ns': '*', 'subscribe': ['a']}}", "anonymous.ns: expected 1 to");
    expect_refused("{'anonymous': {'ns': 'x', 'subscribe': ['{sub}']}}",
                   "anonymous.subscribe[0]: there are no claims here");
    expect_refused("{'anonymous': {'ns': 'x', 'if': {}}}", "anonymous.if: unknown");
}
END_TEST

START_TEST(test_no_secret_in_an_error)
{
    char *why = rig_refusal("{'issuers': [{'algs': ['HS512'], 'namespaces': ['a'], 'keys': "
                            "'secret'}]}");
    ck_assert_ptr_null(strstr(why, "0123456789"));
    free(why);
}
END_TEST

START_TEST(test_warnings)
{
    struct buf warnings = {0};
    rig_warnings(
        "{'issuers': [{'iss': 'i', " ISSUER "}], 'anonymous': {'ns': 'x', 'publish': "
        "['a'], 'admin': true}, 'routes': [{'path': '/x', 'topics': ['a'], 'public': true, "
        "'grants': true}]}",
        &warnings);
    rig_expect_parts(buf_slice(&warnings),
                     "issuers[0]: without an audience|anonymous.publish: everybody may publish|"
                     "anonymous.admin: |routes[0]: /x is public");
    buf_clear(&warnings);
    rig_warnings("{'issuers': [{'iss': 'i', 'aud': 'a', " ISSUER "}]}", &warnings);
    ck_assert_uint_eq(warnings.len, 0);
    buf_reset(&warnings);
}
END_TEST

/* --- the short form --------------------------------------------------------------------------- */

static enum err load_short(const char *alg, const char *key, struct auth **out, struct buf *why)
{
    char path[] = "/tmp/sse-relay-key-XXXXXX", empty[] = "";
    int fd = mkstemp(path);
    struct config config = {
        .auth_file = empty, .auth_key_file = path, .auth_issuer = empty, .auth_audience = empty};
    ck_assert_int_eq(write(fd, key, strlen(key)), (ssize_t)strlen(key));
    close(fd);
    strings_add(&config.auth_algs, slice_of(alg));
    enum err e = auth_load(&config, out, why, NULL);
    strings_reset(&config.auth_algs);
    unlink(path);
    return e;
}

START_TEST(test_short_form)
{
    struct auth *auth = NULL;
    struct buf why = {0};
    ck_assert_int_eq(load_short("HS256", "0123456789abcdef0123456789abcdef\n", &auth, &why), OK);
    ck_assert_uint_eq(auth_files(auth)->count, 1);
    struct grant *grant = auth_rig_grant(auth, "{'iss': 'anybody', 'sse': {'ns': 'any'}}");
    ck_assert_str_eq(grant_fields(grant)->ns, "any");
    grant_unref(grant);
    grant = auth_rig_grant(auth, "{'sse': {'subscribe': ['a']}}");
    ck_assert_ptr_null(grant_fields(grant)->ns);
    grant_unref(grant);
    auth_unref(auth);
    auth = NULL;
    ck_assert_int_ne(load_short("HS256", "short", &auth, &why), OK);
    ck_assert_ptr_null(auth);
    rig_expect_parts(buf_slice(&why), "auth.key_file /tmp/|a secret of 5 bytes");
    buf_reset(&why);
}
END_TEST

START_TEST(test_off)
{
    char empty[] = "";
    struct config config = {.auth_file = empty, .auth_key_file = empty};
    struct auth *auth = (struct auth *)&config;
    struct buf why = {0};
    ck_assert_int_eq(auth_load(&config, &auth, &why, NULL), OK);
    ck_assert_ptr_null(auth);
    auth_unref(auth);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("auth_file");
    tcase_add_test(tests, test_everything_at_once);
    tcase_add_test(tests, test_least);
    tcase_add_test(tests, test_refuses_files);
    tcase_add_test(tests, test_refuses_issuers);
    tcase_add_test(tests, test_issuers_have_names_of_their_own);
    tcase_add_test(tests, test_refuses_rules);
    tcase_add_test(tests, test_refuses_keys_and_anonymous);
    tcase_add_test(tests, test_no_secret_in_an_error);
    tcase_add_test(tests, test_warnings);
    tcase_add_test(tests, test_short_form);
    tcase_add_test(tests, test_off);
    return tests_run(tests);
}
