/* SPDX-License-Identifier: Apache-2.0 */
/* What it costs to find the subscribers of an event, by the number of distinct patterns: one line
 * of JSON for each. A third of the patterns ends with *, a third with >, a third begins with *. */
#include "common/mem.h"
#include "relay/core/topic_index.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TOPICS = 4096, EVENTS = 1000000 };

static void on_hit(void *owner, void *arg)
{
    (void)owner;
    ++*(uint64_t *)arg;
}

static int put_pattern(char *out, size_t size, uint32_t i)
{
    if (i % 3 == 2)
        return snprintf(out, size, "*.%u.created", i / 3);
    return snprintf(out, size, "bench.%u.%c", i / 3, i % 3 ? '>' : '*');
}

static struct topic_index *fill(struct topic_sub *subs, uint32_t patterns)
{
    struct topic_index *index = topic_index_new();
    char name[64];
    for (uint32_t i = 0; i < patterns; i++) {
        size_t len = (size_t)put_pattern(name, sizeof name, i);
        topic_index_add(index, (struct slice){name, len}, &subs[i], &subs[i]);
    }
    return index;
}

/* Of this thread: others may use the core meanwhile. */
static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double time_events(struct topic_index *index, uint32_t patterns, uint64_t *hits)
{
    static char names[TOPICS][64];
    static struct slice topics[TOPICS];
    for (uint32_t i = 0; i < TOPICS; i++) {
        uint64_t spread = i * UINT64_C(0x9E3779B97F4A7C15) >> 32;
        unsigned group = (unsigned)(spread % (patterns / 3 + 1));
        int len = snprintf(names[i], sizeof names[i], "bench.%u.created", group);
        topics[i] = (struct slice){names[i], (size_t)len};
    }
    double start_ns = cpu_ns();
    for (uint32_t i = 0; i < EVENTS; i++)
        topic_index_match(index, topics[i % TOPICS], on_hit, hits);
    return (cpu_ns() - start_ns) / EVENTS;
}

int main(void)
{
    for (uint32_t patterns = 10; patterns <= 100000; patterns *= 10) {
        uint64_t hits = 0;
        struct topic_sub *subs = mem_zero(patterns, sizeof *subs);
        struct topic_index *index = fill(subs, patterns);
        double ns = time_events(index, patterns, &hits);
        printf("{\"patterns\": %u, \"ns_per_event\": %.1f, \"hits_per_event\": %.2f}\n", patterns,
               ns, (double)hits / EVENTS);
        for (uint32_t i = 0; i < patterns; i++)
            topic_index_remove(index, &subs[i]);
        topic_index_free(index);
        free(subs);
    }
    return 0;
}
