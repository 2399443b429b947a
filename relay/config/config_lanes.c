/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/config/config_lanes.h"

#include <assert.h>

#include "common/mem.h"
#include "common/names.h"

/* A topic may have an = of its own: the last one counts. */
static const char *find_last_equals(struct slice text)
{
    for (size_t i = text.len; i > 0; i--)
        if (text.ptr[i - 1] == '=')
            return text.ptr + i - 1;
    return NULL;
}

enum err config_lanes_parse(struct slice text, struct config_lane *out)
{
    struct config_lane rule;
    const char *at = find_last_equals(text);
    if (!at)
        return ERR_INVALID;
    rule.pattern = (struct slice){text.ptr, (size_t)(at - text.ptr)};
    struct slice word = {at + 1, text.len - rule.pattern.len - 1};
    if (!name_pattern_valid(rule.pattern) || lane_parse(word, &rule.lane) != OK)
        return ERR_INVALID;
    *out = rule;
    return OK;
}

void config_lanes_read(struct config *config)
{
    assert(!config->lane_rules);
    if (!config->lanes.count)
        return;
    config->lane_rules = mem_zero(config->lanes.count, sizeof(*config->lane_rules));
    for (size_t i = 0; i < config->lanes.count; i++) {
        enum err e = config_lanes_parse(slice_of(config->lanes.items[i]), &config->lane_rules[i]);
        assert(e == OK && "the table has checked it");
        (void)e;
    }
}
