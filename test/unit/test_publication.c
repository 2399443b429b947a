/* SPDX-License-Identifier: Apache-2.0 */
/* Events on their way in: test/vectors/fields.json holds the table of fields to the contract. (What
 * the doors make of it: test/integration/test_fields.py.) */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/mem.h"
#include "relay/core/publication_arguments.h"
#include "relay/core/publication_fields.h"
#include "test/unit/vectors.h"
#include "test/unit/tests_run.h"

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* --- how the vectors write values ------------------------------------------------------------ */

static void put_hex(struct buf *b, const char *hex)
{
    char byte[3] = "";
    for (; hex[0] && hex[1]; hex += 2) {
        memcpy(byte, hex, 2);
        buf_putc(b, (char)strtoul(byte, NULL, 16));
    }
}

static void put_text(struct buf *b, const cJSON *text)
{
    struct slice s = vectors_text(text);
    buf_put_slice(b, s.ptr ? s : SLICE_LIT(""));
    free((void *)(uintptr_t)s.ptr);
}

/* A value as test/vectors/README.md describes it. Release with buf_reset(). */
static struct buf value_of(const cJSON *notation)
{
    struct buf b = {0};
    const cJSON *repeat = member(notation, "repeat");
    if (cJSON_IsString(notation)) {
        put_text(&b, notation);
    } else if (member(notation, "hex")) {
        put_hex(&b, member(notation, "hex")->valuestring);
    } else {
        put_text(&b, member(notation, "before"));
        for (int i = 0; i < cJSON_GetArrayItem(repeat, 1)->valueint; i++)
            put_text(&b, cJSON_GetArrayItem(repeat, 0));
        put_text(&b, member(notation, "after"));
    }
    buf_reserve(&b, 1); /* an empty value is not an absent one */
    return b;
}

/* Whether the vector is about doors that are strict about texts, as this table is. */
static bool is_for_us(const cJSON *vector)
{
    const cJSON *doors = member(vector, "doors"), *door;
    bool found = !doors;
    cJSON_ArrayForEach(door, doors) found |= strcmp(door->valuestring, "form") == 0;
    return found;
}

static enum publication_field field_of(const char *name)
{
    size_t i = 0;
    while (i < FIELD_COUNT && strcmp(publication_field_name((enum publication_field)i), name) != 0)
        i++;
    return (enum publication_field)i;
}

/* Those of a relay that was told nothing else. */
static const struct publication_bounds bounds = {.log_max = 100000, .log_ttl_ms = 604800000};

/* --- fields ---------------------------------------------------------------------------------- */

static enum err set(struct publication *p, const char *name, struct slice text, struct buf *why)
{
    enum publication_field field = field_of(name);
    ck_assert_msg(field != FIELD_COUNT, "no field %s", name);
    return publication_set(p, field, text, why);
}

/* The value among others that make an event of it. */
static enum err build(struct publication *p, const char *name, const cJSON *with,
                      struct slice value, struct buf *why)
{
    const cJSON *pair;
    bool is_topic = strcmp(name, "topic") == 0 || strcmp(name, "topics") == 0;
    enum err e = set(p, name, value, why);
    if (e == OK && !is_topic)
        e = set(p, "topic", SLICE_LIT("t"), why);
    if (e == OK && strcmp(name, "data") != 0)
        e = set(p, "data", SLICE_LIT("x"), why);
    cJSON_ArrayForEach(pair, with) if (e == OK) e =
        set(p, cJSON_GetArrayItem(pair, 0)->valuestring,
            slice_of(cJSON_GetArrayItem(pair, 1)->valuestring), why);
    return e == OK ? publication_check(p, &bounds, why) : e;
}

static struct slice argument(const struct publication_arguments *a, const char *name)
{
    struct slice found = SLICE_NONE;
    for (size_t i = 0; i < a->count; i += 2)
        if (slice_is(a->items[i], name))
            found = a->items[i + 1];
    return found;
}

static void expect_argument(const struct publication *p, const char *name, const cJSON *vector,
                            struct slice value)
{
    struct publication_arguments a;
    const cJSON *becomes = member(vector, "becomes");
    struct buf wanted = becomes && !cJSON_IsNull(becomes) ? value_of(becomes) : (struct buf){0};
    struct slice want = wanted.ptr ? buf_slice(&wanted) : becomes ? SLICE_NONE : value;
    publication_put_arguments(p, &a);
    struct slice got = argument(&a, strcmp(name, "topics") == 0 ? "topic" : name);
    ck_assert_msg(!got.ptr == !want.ptr && slice_eq(got, want), "%s: became %.*s, not %.*s", name,
                  (int)got.len, got.ptr, (int)want.len, want.ptr);
    size_t bytes = 0;
    for (size_t i = 0; i < a.count; i++)
        bytes += a.items[i].len + 1;
    ck_assert_uint_eq(publication_bytes(p), bytes);
    buf_reset(&wanted);
}

static void run_vector(const char *name, const cJSON *field, const cJSON *vector, bool accepted)
{
    struct publication p = {0};
    struct buf why = {0}, value = value_of(member(vector, "text"));
    enum err e = build(&p, name, member(field, "with"), buf_slice(&value), &why);
    ck_assert_msg((e == OK) == accepted, "%s \"%.*s\": %.*s", name, (int)value.len, value.ptr,
                  (int)why.len, why.ptr ? why.ptr : "");
    if (accepted)
        expect_argument(&p, name, vector, buf_slice(&value));
    else
        ck_assert_msg(why.len > strlen(name) && memcmp(why.ptr, name, strlen(name)) == 0 &&
                          why.ptr[strlen(name)] == ':' && slice_utf8_valid(buf_slice(&why)),
                      "%.*s does not begin with %s", (int)why.len, why.ptr, name);
    publication_reset(&p);
    buf_reset(&value);
    buf_reset(&why);
}

START_TEST(test_fields_are_accepted_and_refused_as_the_vectors_say)
{
    static const char *const verdicts[] = {"refused", "accepted"};
    cJSON *vectors = vectors_load("fields.json");
    const cJSON *field, *vector;
    size_t count = 0, fields = 0;
    cJSON_ArrayForEach(field, member(vectors, "fields"))
    {
        fields++;
        for (size_t accepted = 0; accepted < 2; accepted++)
            cJSON_ArrayForEach(vector, member(field, verdicts[accepted]))
            {
                if (!member(vector, "text") || !is_for_us(vector))
                    continue;
                run_vector(field->string, field, vector, accepted);
                count++;
            }
    }
    ck_assert_uint_eq(fields, FIELD_COUNT);
    ck_assert_uint_gt(count, 200);
    cJSON_Delete(vectors);
}
END_TEST

/* --- the whole ------------------------------------------------------------------------------- */

/* OK also where a name is none of ours: then the door refuses it. */
static enum err build_combination(struct publication *p, const cJSON *vector, bool *known,
                                  struct buf *why)
{
    const cJSON *pair;
    enum err e = OK;
    *known = true;
    cJSON_ArrayForEach(pair, member(vector, "fields"))
    {
        const char *name = cJSON_GetArrayItem(pair, 0)->valuestring;
        *known &= field_of(name) != FIELD_COUNT;
        if (*known && e == OK)
            e = set(p, name, slice_of(cJSON_GetArrayItem(pair, 1)->valuestring), why);
    }
    return e == OK ? publication_check(p, &bounds, why) : e;
}

/* once_ttl is no field of HTTP, and the keys of relays never come by here. */
static bool is_about_http(const cJSON *vector)
{
    const cJSON *pair;
    bool has = false;
    cJSON_ArrayForEach(pair, member(vector, "fields")) has |=
        strcmp(cJSON_GetArrayItem(pair, 0)->valuestring, "once_ttl") == 0;
    return is_for_us(vector) && !has;
}

START_TEST(test_combinations_are_accepted_and_refused_as_the_vectors_say)
{
    cJSON *vectors = vectors_load("fields.json");
    const cJSON *vector;
    size_t count = 0;
    cJSON_ArrayForEach(vector, member(vectors, "combinations"))
    {
        struct publication p = {0};
        struct buf why = {0};
        bool known, accepted = cJSON_IsTrue(member(vector, "accepted"));
        if (!is_about_http(vector))
            continue;
        enum err e = build_combination(&p, vector, &known, &why);
        ck_assert_msg((known && e == OK) == accepted, "%s: %.*s",
                      member(vector, "name")->valuestring, (int)why.len, why.ptr ? why.ptr : "");
        if (!accepted && known)
            ck_assert(
                slice_has_prefix(buf_slice(&why), slice_of(member(vector, "names")->valuestring)));
        count++;
        publication_reset(&p);
        buf_reset(&why);
    }
    ck_assert_uint_gt(count, 25);
    cJSON_Delete(vectors);
}
END_TEST

START_TEST(test_once_ttl_needs_once_and_http_does_not_know_it)
{
    struct publication p = {0};
    struct buf why = {0};
    ck_assert_int_eq(publication_field_find(SLICE_LIT("once_ttl")), FIELD_COUNT);
    ck_assert_int_eq(publication_field_find(SLICE_LIT("once")), FIELD_ONCE);
    ck_assert_int_eq(build(&p, "once_ttl", NULL, SLICE_LIT("5"), &why), ERR_INVALID);
    ck_assert(slice_has_prefix(buf_slice(&why), SLICE_LIT("once_ttl: expected it together with")));
    publication_reset(&p);
    buf_reset(&why);
}
END_TEST

/* --- what is beside the vectors -------------------------------------------------------------- */

START_TEST(test_absent_is_not_zero)
{
    struct publication p = {0};
    struct publication_arguments a;
    struct buf why = {0};
    ck_assert_int_eq(build(&p, "ephemeral", NULL, SLICE_LIT("false"), &why), OK);
    ck_assert(!publication_has(&p, FIELD_RETRY) && !publication_has(&p, FIELD_EPHEMERAL));
    publication_put_arguments(&p, &a);
    ck_assert_uint_eq(a.count, 4);
    ck_assert_int_eq(set(&p, "retry", SLICE_LIT("0"), &why), OK);
    ck_assert(publication_has(&p, FIELD_RETRY));
    publication_put_arguments(&p, &a);
    ck_assert(slice_is(argument(&a, "retry"), "0"));
    publication_reset(&p);
    ck_assert(!publication_has(&p, FIELD_RETRY) && !publication_has(&p, FIELD_TOPIC));
}
END_TEST

START_TEST(test_the_data_is_bounded_without_its_nul_bytes)
{
    struct publication p = {0};
    struct buf why = {0};
    ck_assert_int_eq(publication_set_data(&p, SLICE_LIT("ab\0cd\0"), 4, &why), OK);
    ck_assert(slice_is(p.data, "abcd"));
    publication_reset(&p);
    ck_assert_int_eq(publication_set_data(&p, SLICE_LIT("abcde"), 4, &why), ERR_RANGE);
    ck_assert(slice_is(buf_slice(&why), "data: 5 bytes, expected at most 4"));
    publication_reset(&p);
    buf_reset(&why);
}
END_TEST

START_TEST(test_a_refusal_shows_what_was_given_cut_and_in_utf8)
{
    struct publication p = {0};
    struct buf why = {0};
    char topic[600];
    memset(topic, 0xFF, sizeof(topic));
    ck_assert_int_eq(set(&p, "topic", (struct slice){topic, sizeof(topic)}, &why), ERR_INVALID);
    ck_assert(slice_utf8_valid(buf_slice(&why)) && why.len < 500);
    ck_assert_int_eq(set(&p, "retry", SLICE_LIT("\"x\"\n"), &why), ERR_INVALID);
    ck_assert(slice_is(buf_slice(&why),
                       "retry: expected milliseconds from 0 to 86400000, not \"\\\"x\\\"\\n\""));
    publication_reset(&p);
    buf_reset(&why);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("publication");
    tcase_add_test(cases, test_fields_are_accepted_and_refused_as_the_vectors_say);
    tcase_add_test(cases, test_combinations_are_accepted_and_refused_as_the_vectors_say);
    tcase_add_test(cases, test_once_ttl_needs_once_and_http_does_not_know_it);
    tcase_add_test(cases, test_absent_is_not_zero);
    tcase_add_test(cases, test_the_data_is_bounded_without_its_nul_bytes);
    tcase_add_test(cases, test_a_refusal_shows_what_was_given_cut_and_in_utf8);
    return tests_run(cases);
}
