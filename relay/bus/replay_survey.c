/* SPDX-License-Identifier: Apache-2.0 */
/* What a page over many topics leaves to the next one: docs/architecture.md, "Many reads, few
 * commands". */
#include <assert.h>

#include "relay/bus/replay_parts.h"

void replay_survey_reset(struct replay_survey *survey)
{
    store_look_reset(&survey->look);
    *survey = (struct replay_survey){.least = survey->least};
}

bool replay_survey_serves(const struct replay *r)
{
    const struct replay_survey *survey = r->survey;
    return survey && survey->look.count && r->kind == CURSOR_ID && r->cursor >= survey->from &&
           r->cursor < survey->look.position;
}

void replay_survey_renew(struct replay *r)
{
    assert(r->budget == UINT64_MAX && !r->upto);
    if (r->look.count < r->survey->least || r->kind != CURSOR_ID || r->end >= r->position)
        return; /* that of another page may still serve those behind */
    replay_survey_reset(r->survey);
    r->survey->look = r->look;
    r->survey->from = r->end;
    r->look = (struct store_look){0};
}
