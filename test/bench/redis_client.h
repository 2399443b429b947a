/* SPDX-License-Identifier: Apache-2.0 */
/* Blocking Redis: dialling, and what Redis counts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redisContext;

/* Connects, and does AUTH and SELECT. NULL: a message is on stderr. */
struct redisContext *redis_dial(const char *url);
/* The integer answer of a command with one key, or -1. */
long long redis_ask_number(struct redisContext *redis, const char *command, const char *key);

enum { REDIS_STATS_MAX = 256 };

struct redis_stat {
    char name[48];
    uint64_t calls, us;
};

/* Commands by kind, as INFO commandstats tells them: those that functions call are counted, too. */
struct redis_stats {
    size_t count;
    struct redis_stat items[REDIS_STATS_MAX];
};

bool redis_stats_read(struct redisContext *redis, struct redis_stats *out);
/* Leaves in @after what was added since @before, most calls first, without this tool's own INFO. */
void redis_stats_subtract(struct redis_stats *after, const struct redis_stats *before);
