/* SPDX-License-Identifier: Apache-2.0 */
#include "lanes_schedule.h"

#include <string.h>

#include "common/mem.h"

enum { EVENTS = 4, BYTES = 100000 }; /* of a schedule that does not say */

static const char *const policies[SLOW_COUNT] = {[SLOW_BLOCK] = "block",
                                                 [SLOW_DROP_OLDEST] = "drop-oldest",
                                                 [SLOW_DROP_NEWEST] = "drop-newest",
                                                 [SLOW_DISCONNECT] = "disconnect"};

static const struct {
    const char *name;
    bool counts; /* it has an n */
} acts[ACT_COUNT] = {
    [ACT_PUB] = {"pub", false},        [ACT_LATE] = {"late", false},
    [ACT_WRITE] = {"write", true},     [ACT_TAKE] = {"take", true},
    [ACT_LAND] = {"land", true},       [ACT_ARRIVE] = {"arrive", true},
    [ACT_TICK] = {"tick", false},      [ACT_BEAT] = {"beat", false},
    [ACT_PAGE] = {"page", false},      [ACT_NOTE] = {"note", false},
    [ACT_GAP] = {"gap", false},        [ACT_CUT] = {"cut", false},
    [ACT_END] = {"end", false},        [ACT_CONNECT] = {"connect", false},
    [ACT_RELIEVE] = {"relieve", true}, [ACT_PAUSE] = {"pause", false},
    [ACT_RESUME] = {"resume", false},
};

static const char lanes[LANE_COUNT] = {
    [LANE_INSTANT] = 'i', [LANE_BATCHED] = 'b', [LANE_COALESCED] = 'c', [LANE_APPENDED] = 'a'};

static enum lane_kind lane_of(char letter)
{
    enum lane_kind lane = LANE_INSTANT;
    while (lane < LANE_COUNT && lanes[lane] != letter)
        lane++;
    return lane;
}

/* --- at random ---------------------------------------------------------------------------------*/

static bool chance(struct rng *rng, unsigned percent)
{
    return rng_below(rng, 100) < percent;
}

static struct lanes_step draw_event(struct rng *rng, const char *mix, bool rich)
{
    struct lanes_step step = {.act = ACT_PUB, .wanted = true};
    step.lane = lane_of(mix[rng_below(rng, strlen(mix))]);
    step.topic = "AB"[rng_below(rng, 2)];
    step.key = "xy"[rng_below(rng, 2)];
    if (!rich)
        return step;
    step.wanted = chance(rng, 85);
    step.ephemeral = chance(rng, 10);
    if (step.lane != LANE_APPENDED && chance(rng, 8))
        step.ttl = (uint32_t)(1 + rng_below(rng, 5));
    if (step.wanted && !step.ephemeral && chance(rng, 4)) {
        step.act = ACT_LATE;
        step.ttl = (uint32_t)(1 + rng_below(rng, 3));
    }
    step.ends = step.act == ACT_PUB && !step.ephemeral && !step.ttl && chance(rng, 2);
    return step;
}

static struct lanes_step draw_step(struct rng *rng, const char *mix, bool rich)
{
    struct lanes_step step = {.n = (uint32_t)(1 + rng_below(rng, 3))};
    size_t x = rng_below(rng, 100);
    if (x < 46)
        return draw_event(rng, mix, rich);
    if (x < 65) {
        step.act = chance(rng, 50) ? ACT_WRITE : ACT_TAKE;
        step.n = step.act == ACT_TAKE ? (uint32_t)(1 + rng_below(rng, 70)) : step.n;
    } else if (x < 78) {
        step.act = chance(rng, 50) ? ACT_ARRIVE : ACT_LAND;
        step.n = step.act == ACT_LAND ? (uint32_t)(1 + rng_below(rng, 70)) : step.n;
    } else if (x < 94) {
        static const enum lanes_act some[] = {ACT_TICK,    ACT_TICK,  ACT_TICK,  ACT_TICK,
                                              ACT_BEAT,    ACT_BEAT,  ACT_PAGE,  ACT_CONNECT,
                                              ACT_RELIEVE, ACT_PAUSE, ACT_RESUME};
        step.act = some[rng_below(rng, 11)];
    } else if (x < 96) {
        step.act = rich && chance(rng, 50) ? ACT_GAP : ACT_NOTE;
    } else {
        step.act = chance(rng, 85) ? ACT_CUT : ACT_END;
    }
    return step;
}

static void draw_head(struct lanes_schedule *s, struct rng *rng, bool rich)
{
    static const enum slow_policy drawn[] = {SLOW_BLOCK, SLOW_BLOCK, SLOW_DROP_OLDEST,
                                             SLOW_DROP_NEWEST, SLOW_DISCONNECT};
    s->policy = drawn[rng_below(rng, 5)];
    s->control = !rich || chance(rng, 80) ? CONTROL_ON : chance(rng, 50) ? CONTROL_ID : CONTROL_OFF;
    s->chunked = chance(rng, 50);
    s->slow_log = chance(rng, 40);
    s->all_types = chance(rng, 50);
    s->max_events = chance(rng, 60) ? EVENTS : (uint32_t)(2 + rng_below(rng, 7));
    s->max_bytes = chance(rng, 80) ? BYTES : (uint32_t)(40 + rng_below(rng, 300));
}

/* @rich: with all that an event may have. Without, the judge can be exact. */
void lanes_schedule_draw(struct lanes_schedule *s, struct rng *rng)
{
    static const char *const mixes[] = {"ibc", "ibca", "iiib", "bc", "ica", "i", "ccb", "aaab"};
    const char *mix = mixes[rng_below(rng, 8)];
    bool rich = chance(rng, 70);
    size_t count = 3 + rng_below(rng, LANES_STEPS_MAX / 2 - 1);
    s->count = 0;
    draw_head(s, rng, rich);
    for (size_t i = 0; i < count; i++) {
        s->steps[s->count++] = draw_step(rng, mix, rich);
        enum lanes_act act = s->steps[s->count - 1].act;
        if ((act == ACT_CUT || act == ACT_END) && chance(rng, 70))
            s->steps[s->count++] = (struct lanes_step){.act = ACT_CONNECT};
    }
}

/* --- as text -----------------------------------------------------------------------------------*/

static void put_event(struct buf *b, const struct lanes_step *step)
{
    buf_printf(b, ":%c:%c:%c:%c", lanes[step->lane], step->topic, step->key,
               step->wanted ? 'w' : 'u');
    if (step->ttl)
        buf_printf(b, ":%u", step->ttl);
    else
        buf_puts(b, ":-");
    buf_puts(b, step->ends ? ":z" : step->ephemeral ? ":e" : ":n");
}

void lanes_schedule_put(const struct lanes_schedule *s, struct buf *b)
{
    buf_puts(b, policies[s->policy]);
    buf_puts(b, s->chunked ? ",chunked" : "");
    buf_puts(b, s->control == CONTROL_OFF ? ",silent" : s->control == CONTROL_ID ? ",ids" : "");
    buf_puts(b, s->slow_log ? ",slow-log" : "");
    buf_puts(b, s->all_types ? ",all-types" : "");
    if (s->max_events != EVENTS)
        buf_printf(b, ",events=%u", s->max_events);
    if (s->max_bytes != BYTES)
        buf_printf(b, ",bytes=%u", s->max_bytes);
    for (size_t i = 0; i < s->count; i++) {
        const struct lanes_step *step = &s->steps[i];
        buf_puts(b, i ? ";" : " ");
        buf_puts(b, acts[step->act].name);
        if (acts[step->act].counts)
            buf_printf(b, ":%u", step->n);
        else if (step->act == ACT_PUB || step->act == ACT_LATE)
            put_event(b, step);
    }
}

static bool read_head(struct lanes_schedule *s, char *head)
{
    char *rest = NULL, *word = strtok_r(head, ",", &rest);
    s->policy = SLOW_BLOCK;
    while (word && s->policy < SLOW_COUNT && strcmp(policies[s->policy], word) != 0)
        s->policy++;
    if (!word || s->policy == SLOW_COUNT)
        return false;
    while ((word = strtok_r(NULL, ",", &rest))) {
        s->chunked |= strcmp(word, "chunked") == 0;
        s->slow_log |= strcmp(word, "slow-log") == 0;
        s->all_types |= strcmp(word, "all-types") == 0;
        if (strcmp(word, "silent") == 0)
            s->control = CONTROL_OFF;
        if (strcmp(word, "ids") == 0)
            s->control = CONTROL_ID;
        if (strncmp(word, "events=", 7) == 0)
            s->max_events = (uint32_t)strtoul(word + 7, NULL, 10);
        if (strncmp(word, "bytes=", 6) == 0)
            s->max_bytes = (uint32_t)strtoul(word + 6, NULL, 10);
    }
    return true;
}

static bool read_event(struct lanes_step *step, const char *text)
{
    char lane, wanted, kind, ttl[8];
    if (!text || sscanf(text, "%c:%c:%c:%c:%7[^:]:%c", &lane, &step->topic, &step->key, &wanted,
                        ttl, &kind) != 6)
        return false;
    step->lane = lane_of(lane);
    step->wanted = wanted == 'w';
    step->ttl = ttl[0] == '-' ? 0 : (uint32_t)strtoul(ttl, NULL, 10);
    step->ephemeral = kind == 'e';
    step->ends = kind == 'z';
    return step->lane < LANE_COUNT && (step->topic == 'A' || step->topic == 'B') &&
           (step->key == 'x' || step->key == 'y');
}

static bool read_step(struct lanes_schedule *s, char *word)
{
    struct lanes_step *step = &s->steps[s->count];
    char *args = strchr(word, ':');
    *step = (struct lanes_step){0};
    if (args)
        *args++ = '\0';
    while (step->act < ACT_COUNT && strcmp(acts[step->act].name, word) != 0)
        step->act++;
    if (step->act == ACT_COUNT) /* what the model has, and a stream not */
        return strcmp(word, "part") == 0;
    s->count++;
    if (acts[step->act].counts)
        step->n = args ? (uint32_t)strtoul(args, NULL, 10) : 1;
    return (step->act != ACT_PUB && step->act != ACT_LATE) || read_event(step, args);
}

bool lanes_schedule_read(struct lanes_schedule *s, const char *line)
{
    char *text = mem_dup(line, strlen(line)), *rest = NULL, *word = strtok_r(text, " \n", &rest);
    *s = (struct lanes_schedule){.max_events = EVENTS, .max_bytes = BYTES};
    bool good = word && read_head(s, word);
    while (good && (word = strtok_r(NULL, ";\n", &rest)))
        good = s->count < LANES_STEPS_MAX && read_step(s, word);
    free(text);
    return good;
}
