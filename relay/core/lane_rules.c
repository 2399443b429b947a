/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/lane_rules.h"

#include <string.h>

#include "relay/core/pattern.h"

/* "pattern=priority", as config_check_lane() has seen to it. */
static void split(const char *rule, struct slice *pattern, struct slice *priority)
{
    const char *at = strrchr(rule, '=');
    *pattern = (struct slice){rule, (size_t)(at - rule)};
    *priority = slice_of(at + 1);
}

void lane_rules_apply(const struct config *config, struct event_fields *fields)
{
    for (size_t i = 0; !fields->has_lane && i < config->lanes.count; i++) {
        struct slice pattern, priority;
        split(config->lanes.items[i], &pattern, &priority);
        if (pattern_matches(pattern, fields->topic))
            fields->has_lane = lane_parse(priority, &fields->lane) == OK;
    }
    bool merges = fields->lane == LANE_APPENDED || fields->lane == LANE_COALESCED;
    bool joins_not = fields->lane == LANE_APPENDED && (fields->ttl_ms || fields->retry_ms >= 0);
    if (joins_not || (merges && fields->end != END_NONE))
        fields->lane = LANE_BATCHED;
}
