/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to publishes: what Redis says, and what an HTTP server says. */
#include "common/mem.h"
#include "link_parts.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool link_take_redis(struct link *link, const char *bytes, size_t len)
{
    redisReader *reader = link->replies;
    void *next = NULL;
    if (redisReaderFeed(reader, bytes, len) != REDIS_OK)
        return false;
    while (redisReaderGetReply(reader, &next) == REDIS_OK && next) {
        redisReply *reply = next;
        bool ok = reply->type != REDIS_REPLY_ERROR;
        uint64_t id = reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
        link_answered(link, ok, id, ok ? "" : reply->str);
        freeReplyObject(reply);
        next = NULL;
    }
    return reader->err == 0;
}

struct answer {
    unsigned status;
    const char *body;
    size_t body_len, total; /* total: with its head */
};

/* The value of a header of the head, which ends at @end; NULL: not there. */
static const char *header(const char *head, const char *end, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = memchr(head, '\n', (size_t)(end - head)); p && p + len < end;
         p = memchr(p + 1, '\n', (size_t)(end - p - 1)))
        if (strncasecmp(p + 1, name, len) == 0)
            return p + 1 + len + strspn(p + 1 + len, " ");
    return NULL;
}

/* 1: there is a whole answer; 0: not yet; -1: it is none. A chunked body must not hold what looks
 * like its end, which holds for answers to a publish. */
static int find_answer(const char *bytes, size_t len, struct answer *out)
{
    const char *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (!end)
        return len > 16 << 10 ? -1 : 0;
    end += 4;
    if (memcmp(bytes, "HTTP/1.", 7) != 0)
        return -1;
    out->status = (unsigned)strtoul(bytes + 9, NULL, 10);
    out->body = end;
    size_t there = len - (size_t)(end - bytes);
    const char *length = header(bytes, end, "content-length:");
    const char *coding = header(bytes, end, "transfer-encoding:");
    if (coding) {
        const char *last = memmem(end, there, "0\r\n\r\n", 5);
        if (!last)
            return 0;
        out->body_len = (size_t)(last + 5 - end);
    } else {
        out->body_len = length ? strtoul(length, NULL, 10) : 0;
    }
    out->total = (size_t)(end - bytes) + out->body_len;
    return there >= out->body_len;
}

/* The id in {"id":"123"}, or 0. */
static uint64_t find_id(const struct answer *answer)
{
    const char *at = memmem(answer->body, answer->body_len, "\"id\":\"", 6);
    return at ? strtoull(at + 6, NULL, 10) : 0;
}

bool link_take_http(struct link *link, const char *bytes, size_t len)
{
    struct answer answer;
    buf_put(&link->in, bytes, len);
    buf_putc(&link->in, '\0'); /* for strtoul */
    link->in.len--;
    size_t at = 0;
    int found;
    while ((found = find_answer(link->in.ptr + at, link->in.len - at, &answer)) > 0) {
        bool ok = answer.status >= 200 && answer.status < 300;
        char error[32];
        snprintf(error, sizeof error, "status %u", answer.status);
        at += answer.total;
        link_answered(link, ok, ok ? find_id(&answer) : 0, error);
    }
    memmove(link->in.ptr, link->in.ptr + at, link->in.len - at);
    link->in.len -= at;
    return found == 0;
}
