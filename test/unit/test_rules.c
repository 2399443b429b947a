/* SPDX-License-Identifier: Apache-2.0 */
/* Claims to grants: rules, the claims of identity providers, those of other servers. */
#include "relay/auth/rules.h"
#include "relay/auth/claim_form.h"
#include "test/unit/auth_rig.h"
#include "test/unit/tests_run.h"
#include <stdlib.h>
#include <string.h>

static struct draft draft;
static struct buf trail;

static void teardown(void)
{
    draft_reset(&draft);
    draft = (struct draft){0};
    buf_reset(&trail);
}

static const struct grant_fields *apply(const char *rules_text, const char *claims)
{
    struct buf file = {0}, why = {0};
    struct rules *rules = NULL;
    teardown();
    buf_printf(&file, "{'rules': %s}", rules_text);
    buf_putc(&file, '\0');
    cJSON *tree = rig_json(file.ptr), *token = rig_json(claims);
    enum err e = rules_new(tree, &rules, &why);
    buf_putc(&why, '\0');
    ck_assert_msg(e == OK, "%s: %s", rules_text, why.ptr);
    draft.trail = &trail;
    rules_put(rules, token, &draft);
    rules_free(rules);
    cJSON_Delete(token);
    cJSON_Delete(tree);
    buf_reset(&file);
    buf_reset(&why);
    return &draft.fields;
}

static void expect(const char *rules_text, const char *claims, const char *subscribe)
{
    rig_expect(&apply(rules_text, claims)->subscribe, subscribe);
}

static const struct grant_fields *take(const char *form_text, const char *claims, bool is_used)
{
    struct buf why = {0};
    struct claim_form *form = NULL;
    struct place at = PLACE_FILE;
    teardown();
    cJSON *tree = form_text ? rig_json(form_text) : NULL, *token = rig_json(claims);
    enum err e = claim_form_new(&at, tree, &form, &why);
    buf_putc(&why, '\0');
    ck_assert_msg(e == OK, "%s: %s", form_text, why.ptr);
    draft.trail = &trail;
    ck_assert_msg(claim_form_is_used(form, token) == is_used, "%s", claims);
    claim_form_put(form, token, &draft);
    claim_form_free(form);
    cJSON_Delete(token);
    cJSON_Delete(tree);
    buf_reset(&why);
    return &draft.fields;
}

/* --- conditions ------------------------------------------------------------------------------- */

static const char viewers[] =
    "[{'if': {'/realm_access/roles': ['viewer', 'editor']}, 'subscribe': ['item.*']}]";

START_TEST(test_conditions)
{
    expect(viewers, "{'realm_access': {'roles': ['x', 'viewer']}}", "item.*");
    expect(viewers, "{'realm_access': {'roles': ['editor']}}", "item.*");
    expect(viewers, "{'realm_access': {'roles': 'viewer'}}", "item.*");
    expect(viewers, "{'realm_access': {'roles': []}}", "");
    expect(viewers, "{'realm_access': {'Roles': ['viewer']}}", "");
    expect(viewers, "{}", "");
    /* All pointers, one value of each. */
    expect("[{'if': {'/a': 1, '/b': true}, 'subscribe': ['t']}]", "{'a': 1, 'b': true}", "t");
    expect("[{'if': {'/a': 1, '/b': true}, 'subscribe': ['t']}]", "{'a': 1, 'b': false}", "");
    expect("[{'if': {'/a': 1, '/b': true}, 'subscribe': ['t']}]", "{'b': true}", "");
    /* No condition: every token. All that apply, together, each pattern once. */
    expect("[{'subscribe': ['a', 'b']}, {'if': {'/x': 1}, 'subscribe': ['c']}, "
           "{'subscribe': ['b', 'd']}]",
           "{}", "a b d");
    expect("[]", "{}", "");
}
END_TEST

/* Attack 19. */
START_TEST(test_odd_roles_apply_to_nothing)
{
    static const char *const roles[] = {
        "'viewerX'",
        "'viewer,editor'",
        "'viewer editor'",
        "[['viewer']]",
        "5",
        "{'viewer': true}",
        "[{'name': 'viewer'}]",
        "null",
        "'Viewer'",
        "' viewer'",
        "[null]",
        "true",
        "['view', 'er']",
        "'viewer\\n'",
    };
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        struct buf claims = {0};
        buf_printf(&claims, "{'realm_access': {'roles': %s}}", roles[i]);
        buf_putc(&claims, '\0');
        expect(viewers, claims.ptr, "");
        buf_reset(&claims);
    }
}
END_TEST

static void expect_nth(size_t nth, size_t count, const char *subscribe)
{
    struct buf claims = {0};
    buf_puts(&claims, "{'realm_access': {'roles': [");
    for (size_t i = 0; i < count; i++)
        buf_printf(&claims, "%s'%s'", i ? "," : "", i == nth ? "viewer" : "x");
    buf_puts(&claims, "]}}");
    buf_putc(&claims, '\0');
    expect(viewers, claims.ptr, subscribe);
    buf_reset(&claims);
}

START_TEST(test_only_the_first_64_roles_count)
{
    expect_nth(63, 64, "item.*");
    expect_nth(63, 10000, "item.*");
    expect_nth(64, 65, "");
    expect_nth(9999, 10000, "");
}
END_TEST

START_TEST(test_everything_a_rule_grants)
{
    const struct grant_fields *f =
        apply("[{'subscribe': ['user.{sub}'], 'publish': ['in.{sub}.>'], 'topics': ['user.{sub}'], "
              "'match': {'org': '{/org_id}', 'kind': 'x', 'role': ['a', '{/r}'], 'n': 7}, "
              "'admin': true}]",
              "{'sub': 's', 'org_id': ['o1', 'o2'], 'r': 'b'}");
    rig_expect(&f->subscribe, "user.s");
    rig_expect(&f->publish, "in.s.>");
    rig_expect(&f->topics, "user.s");
    ck_assert(f->admin);
    ck_assert_uint_eq(f->match_count, 4);
    ck_assert_str_eq(f->match[0].name, "org");
    rig_expect(&f->match[0].values, "o1 o2");
    rig_expect(&f->match[1].values, "x");
    rig_expect(&f->match[2].values, "a b");
    rig_expect(&f->match[3].values, "7");
    rig_expect_parts(buf_slice(&trail), "user.s  (rules[0].subscribe[0])|org = o2  (rules[0].match."
                                        "org)|admin       yes  (rules[0].admin)");
}
END_TEST

START_TEST(test_a_line_without_its_claim_grants_nothing)
{
    const struct grant_fields *f =
        apply("[{'subscribe': ['user.{sub}', 'a'], 'match': {'org': '{/org_id}'}}]", "{}");
    rig_expect(&f->subscribe, "a");
    ck_assert_uint_eq(f->match_count, 0);
    rig_expect_parts(buf_slice(&trail),
                     "nothing     user.{sub}  (rules[0].subscribe[0]: {sub}: the token has no such "
                     "claim)|rules[0].match.org: the token has no such claim");
    ck_assert_uint_eq(draft.unsayable.len, 0);
}
END_TEST

START_TEST(test_a_grant_is_bounded)
{
    struct buf claims = {0};
    buf_puts(&claims, "{'sse': {'subscribe': ['t0'");
    for (int i = 1; i < DRAFT_PATTERNS_MAX + 5; i++)
        buf_printf(&claims, ",'t%d'", i);
    buf_puts(&claims, "]}}");
    buf_putc(&claims, '\0');
    ck_assert_uint_eq(take(NULL, claims.ptr, true)->subscribe.count, DRAFT_PATTERNS_MAX);
    rig_expect_parts(buf_slice(&trail), "t1024  (/sse/subscribe[1024]: a grant has at most 1024");
    buf_reset(&claims);
}
END_TEST

/* --- the tokens of identity providers --------------------------------------------------------- */

START_TEST(test_shapes_of_identity_providers)
{
    /* Keycloak: roles of the realm and of a client. */
    expect("[{'if': {'/realm_access/roles': ['viewer']}, 'subscribe': ['item.*']}, "
           "{'if': {'/resource_access/shop-app/roles': 'admin'}, 'subscribe': ['>']}]",
           "{'typ': 'Bearer', 'azp': 'shop-app', 'sub': '7f', 'realm_access': {'roles': "
           "['offline_access', 'viewer']}, 'resource_access': {'shop-app': {'roles': ['admin']}, "
           "'account': {'roles': ['view-profile']}}, 'scope': 'openid email'}",
           "item.* >");
    /* Auth0: claims of one's own are named by URLs; permissions are a list; sub has a bar. */
    expect("[{'if': {'/permissions': 'read:items'}, 'subscribe': ['item.*', 'user.{sub}']}, "
           "{'subscribe': ['org.{https://shop.example/org}']}, "
           "{'if': {'/https:~1~1shop.example~1roles': ['ops']}, 'subscribe': ['ops']}]",
           "{'sub': 'auth0|5f', 'aud': ['sse-relay', 'https://x.auth0.example/userinfo'], "
           "'permissions': ['read:items'], 'https://shop.example/org': 'o.1', "
           "'https://shop.example/roles': ['ops'], 'scope': 'openid'}",
           "item.* user.auth0|5f org.o%2E1 ops");
    /* Cognito: groups with a colon in their name, and no aud in access tokens. */
    expect("[{'if': {'/cognito:groups': ['viewers'], '/token_use': 'access'}, "
           "'subscribe': ['user.{username}']}]",
           "{'sub': 'a-b', 'token_use': 'access', 'client_id': '1h', 'cognito:groups': "
           "['viewers', 'x'], 'username': 'jo@x.example', 'scope': 'aws.cognito.signin'}",
           "user.jo@x%2Eexample");
    /* Kubernetes: a member's name has dots, and an object in it. */
    expect("[{'if': {'/kubernetes.io/namespace': ['shop']}, 'subscribe': "
           "['sa.{/kubernetes.io/serviceaccount/name}'], 'publish': ['>']}]",
           "{'aud': ['sse-relay'], 'sub': 'system:serviceaccount:shop:api', 'kubernetes.io': "
           "{'namespace': 'shop', 'pod': {'name': 'api-1'}, 'serviceaccount': {'name': 'api'}}}",
           "sa.api");
    rig_expect(&draft.fields.publish, ">");
}
END_TEST

/* --- claims that say it themselves ------------------------------------------------------------ */

START_TEST(test_our_own_claims)
{
    const struct grant_fields *f =
        take(NULL,
             "{'sub': '42', 'sse': {'ns': 't1', 'subscribe': ['orders.*', 'user.{sub}'], "
             "'publish': 'orders.> x', 'topics': ['user.{sub}'], 'admin': true, "
             "'match': {'user_id': '42', 'org': ['a', 5], 'x': {}}}}",
             true);
    rig_expect(&f->subscribe, "orders.* user.42");
    rig_expect(&f->publish, "orders.> x");
    rig_expect(&f->topics, "user.42");
    ck_assert(f->admin);
    ck_assert_uint_eq(f->match_count, 2);
    rig_expect(&f->match[1].values, "a 5");
    rig_expect_parts(buf_slice(&draft.unsayable), "/sse/match.x: ");
}
END_TEST

START_TEST(test_namespace_alone_leaves_it_to_rules)
{
    take(NULL, "{'sse': {'ns': 't1'}}", false);
    take(NULL, "{'sub': 'x'}", false);
    take(NULL, "{'sse': 'x'}", false);
    take(NULL, "{'sse': {'subscribe': []}}", true);
    take(NULL, "{'sse': {'subscribe': null}}", true);
    take(NULL, "{'sse': {'match': {}}}", true);
    take("{'subscribe': '/scope', 'admin': null}", "{'sse': {'subscribe': ['a'], 'admin': true}}",
         false);
}
END_TEST

START_TEST(test_pointers_of_an_issuer)
{
    const struct grant_fields *f =
        take("{'subscribe': '/scope', 'publish': null}",
             "{'scope': 'a  b.* c*d', 'sse': {'publish': ['x'], 'topics': ['a']}}", true);
    rig_expect(&f->subscribe, "a b.*");
    rig_expect(&f->publish, "");
    rig_expect(&f->topics, "a");
    rig_expect_parts(buf_slice(&draft.unsayable), "/scope: c*d: it is no pattern");
}
END_TEST

START_TEST(test_values_of_match_are_never_filled)
{
    const struct grant_fields *f =
        take(NULL, "{'org': 'secret', 'sse': {'match': {'name': '{org}'}}}", true);
    rig_expect(&f->match[0].values, "{org}");
}
END_TEST

START_TEST(test_wrong_kinds_grant_nothing)
{
    const struct grant_fields *f = take(NULL,
                                        "{'sse': {'subscribe': {'a': 'b'}, 'publish': 5, 'topics': "
                                        "[['a'], 1, null, 'ok', 'n.{x}'], "
                                        "'match': ['a'], 'admin': 'true'}}",
                                        true);
    ck_assert_uint_eq(f->subscribe.count + f->publish.count + f->match_count, 0);
    rig_expect(&f->topics, "ok");
    ck_assert(!f->admin);
}
END_TEST

START_TEST(test_centrifugo)
{
    const struct grant_fields *f = take(
        "'centrifugo'",
        "{'sub': '42', 'sse': {'subscribe': ['>']}, 'channels': ['news', 'chat:1', 'a*', '', 3], "
        "'subs': {'$priv:{sub}': {'data': {}}}, 'caps': ["
        "{'channels': ['x', 'y', '*'], 'allow': ['sub', 'pub', 'hst']}, "
        "{'channels': ['x', 'z'], 'allow': ['pub']}, "
        "{'channels': ['w*'], 'match': 'wildcard', 'allow': ['sub']}, "
        "{'channels': ['late'], 'allow': ['sub']}]}",
        true);
    rig_expect(&f->subscribe, "news chat:1 $priv:{sub} x y");
    rig_expect(&f->publish, "x y z");
    rig_expect(&f->topics, "news chat:1 $priv:{sub}");
    take("'centrifugo'", "{'sse': {'subscribe': ['>']}}", false);
    ck_assert_uint_eq(draft.fields.subscribe.count, 0);
    f = take("'centrifugo'", "{'channels': 'news', 'subs': ['a'], 'caps': {'channels': ['b']}}",
             true);
    ck_assert_uint_eq(f->subscribe.count, 0);
    /* Of a channel the first capability counts, also where it allows nothing. */
    f = take("'centrifugo'",
             "{'caps': [{'channels': ['a'], 'allow': []}, {'channels': ['a'], 'allow': ['sub']}]}",
             true);
    ck_assert_uint_eq(f->subscribe.count, 0);
}
END_TEST

START_TEST(test_mercure)
{
    const struct grant_fields *f = take(
        "'mercure'",
        "{'mercure': {'publish': ['*'], 'subscribe': ['https://example.com/books/1', "
        "'https://example.com/{any}', {'match': 'm'}, {'match': 'e', 'matchType': 'exact'}, "
        "{'match': '/b/:id', 'matchType': 'urlpattern'}, {'match': 'u', 'x': 1}, {}, 5, 'a*']}}",
        true);
    rig_expect(&f->publish, ">");
    rig_expect(&f->subscribe, "https://example.com/books/1 m e");
    f = take("'mercure'",
             "{'authorization_details': ["
             "{'type': 'https://mercure.rocks/authorization-detail', 'actions': ['subscribe'], "
             "'topics': [{'match': '*'}]}, "
             "{'type': 'https://mercure.rocks/authorization-detail', 'actions': ['publish'], "
             "'topics': [{'match': 'p'}]}, "
             "{'type': 'other', 'actions': ['publish'], 'topics': [{'match': '*'}]}, 7]}",
             true);
    rig_expect(&f->subscribe, ">");
    rig_expect(&f->publish, "p");
    take("'mercure'", "{'sse': {'subscribe': ['>']}}", false);
    take("'mercure'", "{'mercure': ['*'], 'authorization_details': {'type': 'x'}}", true);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("rules");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, test_conditions);
    tcase_add_test(tests, test_odd_roles_apply_to_nothing);
    tcase_add_test(tests, test_only_the_first_64_roles_count);
    tcase_add_test(tests, test_everything_a_rule_grants);
    tcase_add_test(tests, test_a_line_without_its_claim_grants_nothing);
    tcase_add_test(tests, test_a_grant_is_bounded);
    tcase_add_test(tests, test_shapes_of_identity_providers);
    tcase_add_test(tests, test_our_own_claims);
    tcase_add_test(tests, test_namespace_alone_leaves_it_to_rules);
    tcase_add_test(tests, test_pointers_of_an_issuer);
    tcase_add_test(tests, test_values_of_match_are_never_filled);
    tcase_add_test(tests, test_wrong_kinds_grant_nothing);
    tcase_add_test(tests, test_centrifugo);
    tcase_add_test(tests, test_mercure);
    return tests_run(tests);
}
