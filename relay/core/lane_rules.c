/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/lane_rules.h"

#include "relay/core/pattern.h"

bool lane_rules_find(const struct config *config, struct slice topic, enum lane_kind *out)
{
    for (size_t i = 0; i < config->lanes.count; i++) {
        const struct config_lane *rule = &config->lane_rules[i];
        if (!pattern_matches(rule->pattern, topic))
            continue;
        *out = rule->lane;
        return true;
    }
    return false;
}

/* Whether it can be merged with others of its topic. A joined block has no room for the options of
 * each, and an end stays an event of its own. @is_shared: a stream takes one copy of an event on
 * several topics, which would be merged by that one's topic and lost to the others'. */
static bool may_merge(const struct event_fields *fields, bool is_shared)
{
    if (fields->lane == LANE_APPENDED && (fields->ttl_ms || fields->retry_ms >= 0))
        return false;
    return fields->end == END_NONE && !is_shared;
}

void lane_rules_apply(const struct config *config, struct event_fields *fields)
{
    bool is_shared = fields->twin > 0;
    if (!fields->has_lane && !is_shared)
        fields->has_lane = lane_rules_find(config, fields->topic, &fields->lane);
    bool merges = fields->lane == LANE_APPENDED || fields->lane == LANE_COALESCED;
    if (merges && !may_merge(fields, is_shared))
        fields->lane = LANE_BATCHED;
}
