/* SPDX-License-Identifier: Apache-2.0 */
/* Two names, split at the first byte 1: validity, matching, inclusion, keys and the index must
 * agree. */
#include "common/names.h"
#include "relay/core/pattern.h"
#include "relay/core/topic_index.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void expect(bool truth)
{
    if (!truth)
        abort();
}

static void on_hit(void *owner, void *arg)
{
    (void)owner;
    ++*(int *)arg;
}

static void check_index(struct slice pattern, struct slice topic)
{
    struct topic_index *index = topic_index_new();
    struct topic_sub one, two;
    int hits = 0;
    expect(topic_index_add(index, pattern, &one, NULL));
    bool fresh = topic_index_add(index, topic, &two, NULL);
    expect(fresh == !slice_eq(pattern, topic));
    topic_index_match(index, topic, on_hit, &hits);
    expect(hits == 1 + pattern_matches(pattern, topic));
    expect(topic_index_remove(index, &one) == fresh);
    expect(topic_index_remove(index, &two));
    topic_index_free(index);
}

static void check_channel(struct slice topic)
{
    struct buf b = {0};
    struct slice ns, again;
    name_put_channel(&b, "p", SLICE_LIT("n"), topic);
    expect(name_split_channel(buf_slice(&b), "p", &ns, &again) == OK);
    expect(slice_is(ns, "n") && slice_eq(again, topic));
    buf_reset(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct slice all = {(const char *)bytes, len}, ns, topic;
    const char *split = len > 0 ? memchr(bytes, 1, len) : NULL;
    if (name_split_channel(all, "p", &ns, &topic) == OK)
        expect(name_ns_valid(ns) && name_topic_valid(topic));
    if (split == NULL)
        return 0;
    struct slice a = {all.ptr, (size_t)(split - all.ptr)};
    struct slice b = {split + 1, len - a.len - 1};
    if (!name_pattern_valid(a) || !name_pattern_valid(b))
        return 0;
    expect(name_topic_valid(a) == !name_is_pattern(a));
    expect(pattern_includes(a, a) && pattern_includes(b, b));
    if (name_topic_valid(b)) {
        check_channel(b);
        check_index(a, b);
    }
    return 0;
}
