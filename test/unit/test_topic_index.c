/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/topic_index.h"
#include "common/hash.h"
#include "relay/core/pattern.h"
#include "test/unit/rng.h"
#include "test/unit/tests_run.h"
#include <check.h>
#include <string.h>

#define SUBS 200

/* The model: a plain list, matched one by one. */
struct model_sub {
    struct topic_sub sub;
    char name[32];
    bool used;
    unsigned hits;
};

struct model {
    struct topic_index *index;
    struct model_sub subs[SUBS];
};

static void on_hit(void *owner, void *arg)
{
    struct model_sub *s = owner;
    ck_assert_ptr_eq(arg, &on_hit);
    s->hits++;
}

static void random_name(struct rng *rng, char *out, bool wildcards)
{
    static const char *const tokens[] = {"a", "b", "cc", "*", "\xC3\xA9"};
    size_t count = 1 + rng_below(rng, 4);
    *out = '\0';
    for (size_t i = 0; i < count; i++) {
        size_t pick = rng_below(rng, 5);
        if (pick == 3 && !wildcards)
            pick = 0;
        if (i > 0)
            strcat(out, ".");
        strcat(out, wildcards && i == count - 1 && rng_below(rng, 4) == 0 ? ">" : tokens[pick]);
    }
}

static size_t model_count(const struct model *m, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < SUBS; i++)
        count += m->subs[i].used && strcmp(m->subs[i].name, name) == 0;
    return count;
}

static void check_match(struct model *m, struct rng *rng)
{
    char topic[32];
    random_name(rng, topic, false);
    for (size_t i = 0; i < SUBS; i++)
        m->subs[i].hits = 0;
    topic_index_match(m->index, slice_of(topic), on_hit, &on_hit);
    for (size_t i = 0; i < SUBS; i++) {
        const struct model_sub *s = &m->subs[i];
        bool want = s->used && pattern_matches(slice_of(s->name), slice_of(topic));
        ck_assert_msg(s->hits == want, "%s for %s: %u", s->name, topic, s->hits);
    }
}

static void on_each(struct slice name, size_t subscribers, void *arg)
{
    const struct model *m = arg;
    char text[32] = "";
    ck_assert_uint_lt(name.len, sizeof text);
    memcpy(text, name.ptr, name.len);
    ck_assert_uint_gt(subscribers, 0);
    ck_assert_uint_eq(subscribers, model_count(m, text));
}

static size_t model_names(const struct model *m)
{
    size_t names = 0;
    for (size_t i = 0; i < SUBS; i++) {
        bool first = m->subs[i].used;
        for (size_t j = 0; j < i && first; j++)
            first = !m->subs[j].used || strcmp(m->subs[i].name, m->subs[j].name) != 0;
        names += first;
    }
    return names;
}

static void toggle(struct model *m, struct rng *rng, struct model_sub *s)
{
    if (s->used) {
        ck_assert(slice_is(topic_sub_name(&s->sub), s->name));
        s->used = false;
        bool last = topic_index_remove(m->index, &s->sub);
        ck_assert_int_eq(last, model_count(m, s->name) == 0);
        ck_assert_ptr_null(s->sub.node);
        return;
    }
    random_name(rng, s->name, true);
    bool first = topic_index_add(m->index, slice_of(s->name), &s->sub, s);
    ck_assert_int_eq(first, model_count(m, s->name) == 0);
    s->used = true;
}

static struct model model;

START_TEST(test_index_does_what_a_list_does)
{
    struct rng rng = rng_seeded("topic_index");
    model.index = topic_index_new();
    for (int round = 0; round < 30000; round++) {
        toggle(&model, &rng, &model.subs[rng_below(&rng, SUBS)]);
        if (round % 4 == 0)
            check_match(&model, &rng);
        if (round % 64 == 0) {
            ck_assert_uint_eq(topic_index_names(model.index), model_names(&model));
            topic_index_each(model.index, on_each, &model);
        }
    }
    for (size_t i = 0; i < SUBS; i++)
        if (model.subs[i].used)
            toggle(&model, &rng, &model.subs[i]);
    ck_assert_uint_eq(topic_index_names(model.index), 0);
    check_match(&model, &rng);
    topic_index_free(model.index);
}
END_TEST

static void count_hit(void *owner, void *arg)
{
    (void)owner;
    ++*(size_t *)arg;
}

START_TEST(test_many_subscribers_of_one_name)
{
    static struct topic_sub subs[5000];
    struct topic_index *index = topic_index_new();
    size_t count = sizeof subs / sizeof *subs, hits = 0;
    for (size_t i = 0; i < count; i++)
        ck_assert(topic_index_add(index, SLICE_LIT("a.*"), &subs[i], NULL) == (i == 0));
    topic_index_match(index, SLICE_LIT("a.b"), count_hit, &hits);
    ck_assert_uint_eq(hits, count);
    for (size_t i = 0; i < count; i++)
        ck_assert(topic_index_remove(index, &subs[i]) == (i == count - 1));
    topic_index_free(index);
}
END_TEST

START_TEST(test_longest_names)
{
    /* 256 tokens, and one token of 512 bytes. */
    char deep[511], wide[512], stars[511], star_rest[511];
    for (size_t i = 0; i < sizeof deep; i++) {
        deep[i] = i % 2 == 0 ? 'a' : '.';
        stars[i] = i % 2 == 0 ? '*' : '.';
        star_rest[i] = stars[i];
    }
    star_rest[510] = '>';
    memset(wide, 'w', sizeof wide);
    const struct slice names[] = {{deep, sizeof deep},   {wide, sizeof wide},
                                  {stars, sizeof stars}, {star_rest, sizeof star_rest},
                                  SLICE_LIT("*"),        SLICE_LIT(">")};
    struct topic_sub subs[6];
    struct topic_index *index = topic_index_new();
    for (size_t i = 0; i < 6; i++)
        ck_assert(topic_index_add(index, names[i], &subs[i], NULL));
    size_t hits = 0;
    topic_index_match(index, names[0], count_hit, &hits);
    ck_assert_uint_eq(hits, 4); /* itself, stars, star_rest, > */
    hits = 0;
    topic_index_match(index, names[1], count_hit, &hits);
    ck_assert_uint_eq(hits, 3); /* itself, *, > */
    for (size_t i = 0; i < 6; i++)
        ck_assert(topic_index_remove(index, &subs[i]));
    topic_index_free(index);
    topic_index_free(NULL);
}
END_TEST

int main(void)
{
    hash_seed_init();
    TCase *tests = tcase_create("topic_index");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_index_does_what_a_list_does);
    tcase_add_test(tests, test_many_subscribers_of_one_name);
    tcase_add_test(tests, test_longest_names);
    return tests_run(tests);
}
