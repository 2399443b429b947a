/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_client.h"
#include "common/mem.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parts {
    char *password, *host, *port, *db;
    bool local;
};

/* Takes a copy of the URL apart; the parts point into it. */
static bool split(char *url, struct parts *out)
{
    *out = (struct parts){.host = url, .port = NULL};
    if (strncmp(url, "unix:", 5) == 0) {
        out->local = true;
        out->host = strncmp(url + 5, "//", 2) == 0 ? url + 7 : url + 5;
        return true;
    }
    char *start = url;
    if (strncmp(url, "redis://", 8) == 0)
        start += 8;
    else if (strstr(url, "://"))
        return false;
    char *at = strrchr(start, '@'), *colon;
    if (at) {
        *at = '\0';
        colon = strchr(start, ':');
        out->password = colon ? colon + 1 : start;
        start = at + 1;
    }
    out->db = strchr(start, '/');
    if (out->db)
        *out->db++ = '\0';
    colon = strrchr(start, ':');
    if (colon) {
        *colon = '\0';
        out->port = colon + 1;
    }
    out->host = *start ? start : (char *)"127.0.0.1";
    return true;
}

static bool command_ok(redisContext *redis, const char *command, const char *argument)
{
    redisReply *reply = redisCommand(redis, "%s %s", command, argument);
    bool ok = reply && reply->type != REDIS_REPLY_ERROR;
    if (!ok)
        fprintf(stderr, "sse-bench: redis: %s: %s\n", command, reply ? reply->str : redis->errstr);
    if (reply)
        freeReplyObject(reply);
    return ok;
}

struct redisContext *redis_dial(const char *url)
{
    struct timeval limit = {5, 0};
    struct parts parts;
    char *copy = mem_dup(url, strlen(url));
    redisContext *redis = NULL;
    if (!split(copy, &parts))
        fprintf(stderr, "sse-bench: %s: expected redis:// or unix:\n", url);
    else if (parts.local)
        redis = redisConnectUnixWithTimeout(parts.host, limit);
    else
        redis = redisConnectWithTimeout(parts.host, parts.port ? atoi(parts.port) : 6379, limit);
    if (redis && redis->err)
        fprintf(stderr, "sse-bench: %s: %s\n", url, redis->errstr);
    if (redis && (redis->err || (parts.password && !command_ok(redis, "AUTH", parts.password)) ||
                  (parts.db && *parts.db && !command_ok(redis, "SELECT", parts.db)))) {
        redisFree(redis);
        redis = NULL;
    }
    free(copy);
    return redis;
}

long long redis_ask_number(struct redisContext *redis, const char *command, const char *key)
{
    redisReply *reply = redisCommand(redis, "%s %s", command, key);
    long long n = reply && reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    if (reply)
        freeReplyObject(reply);
    return n;
}

static void read_line(struct redis_stats *out, const char *line)
{
    unsigned long long calls, us;
    struct redis_stat *item = &out->items[out->count];
    if (out->count < REDIS_STATS_MAX &&
        sscanf(line, "cmdstat_%47[^:]:calls=%llu,usec=%llu", item->name, &calls, &us) == 3) {
        item->calls = calls;
        item->us = us;
        out->count++;
    }
}

bool redis_stats_read(struct redisContext *redis, struct redis_stats *out)
{
    redisReply *reply = redisCommand(redis, "INFO commandstats");
    out->count = 0;
    if (!reply || !reply->str || reply->type == REDIS_REPLY_ERROR) {
        if (reply)
            freeReplyObject(reply);
        return false;
    }
    char *save = NULL;
    for (char *line = strtok_r(reply->str, "\r\n", &save); line;
         line = strtok_r(NULL, "\r\n", &save))
        read_line(out, line);
    freeReplyObject(reply);
    return true;
}

static const struct redis_stat *find(const struct redis_stats *stats, const char *name)
{
    for (size_t i = 0; i < stats->count; i++)
        if (strcmp(stats->items[i].name, name) == 0)
            return &stats->items[i];
    return NULL;
}

static int more_calls(const void *a, const void *b)
{
    uint64_t x = ((const struct redis_stat *)a)->calls, y = ((const struct redis_stat *)b)->calls;
    return (x < y) - (x > y);
}

void redis_stats_subtract(struct redis_stats *after, const struct redis_stats *before)
{
    size_t kept = 0;
    for (size_t i = 0; i < after->count; i++) {
        struct redis_stat item = after->items[i];
        const struct redis_stat *old = find(before, item.name);
        if (old) {
            item.calls -= old->calls;
            item.us -= old->us;
        }
        if (item.calls > 0 && strcmp(item.name, "info") != 0)
            after->items[kept++] = item;
    }
    after->count = kept;
    qsort(after->items, kept, sizeof after->items[0], more_calls);
}
