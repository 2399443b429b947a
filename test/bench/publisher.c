/* SPDX-License-Identifier: Apache-2.0 */
#include "publisher.h"
#include "common/mem.h"
#include "payload.h"
#include <stdlib.h>
#include <string.h>

static void put_bulk(struct buf *out, const void *bytes, size_t len)
{
    buf_putc(out, '$');
    buf_put_u64(out, len);
    buf_puts(out, "\r\n");
    buf_put(out, bytes, len);
    buf_puts(out, "\r\n");
}

static void put_text(struct buf *out, const char *text)
{
    put_bulk(out, text, strlen(text));
}

/* P:{NS}, and what comes behind it. */
static void put_key(struct buf *out, const struct options *o, const char *rest)
{
    struct buf key = {0};
    buf_printf(&key, "%s:{%s}%s", o->prefix, o->ns, rest);
    put_bulk(out, key.ptr, key.len);
    buf_reset(&key);
}

static void put_fields(struct buf *out, const struct options *o, uint32_t topic,
                       const struct buf *data)
{
    struct buf name = {0};
    topics_put_name(&o->topics, topic, false, &name);
    put_text(out, "topic");
    put_bulk(out, name.ptr, name.len);
    put_text(out, "data");
    put_bulk(out, data->ptr, data->len);
    buf_reset(&name);
}

static void put_publish(struct buf *out, const struct options *o, uint32_t topic,
                        const struct buf *data)
{
    struct buf channel = {0}, name = {0};
    topics_put_name(&o->topics, topic, false, &name);
    const char *at = o->channel ? strstr(o->channel, "%t") : NULL;
    if (!o->channel)
        buf_printf(&channel, "%s:{%s}:ch:%.*s", o->prefix, o->ns, (int)name.len, name.ptr);
    else if (!at)
        buf_puts(&channel, o->channel);
    else
        buf_printf(&channel, "%.*s%.*s%s", (int)(at - o->channel), o->channel, (int)name.len,
                   name.ptr, at + 2);
    put_text(out, "PUBLISH");
    put_bulk(out, channel.ptr, channel.len);
    put_bulk(out, data->ptr, data->len);
    buf_reset(&channel);
    buf_reset(&name);
}

static void put_post(struct buf *out, const struct options *o, uint32_t topic,
                     const struct buf *data)
{
    buf_puts(out, "POST ");
    topics_put_target_of(&o->topics, o->publish_path, topic, out);
    buf_printf(out, " HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n",
               o->publish_host, data->len);
    tokens_put(&o->tokens, 0, out);
    for (uint32_t i = 0; i < o->headers.count; i++)
        buf_printf(out, "%s\r\n", o->headers.items[i]);
    buf_puts(out, "\r\n");
    buf_put(out, data->ptr, data->len);
}

static void format_event(void *arg, uint64_t g, struct buf *out)
{
    struct publisher *p = arg;
    const struct options *o = p->options;
    struct tag tag = ledger_tag(p->ledger, g);
    buf_clear(&p->payload);
    payload_write(&p->payload, o->payload, &tag, o->size);
    switch (o->publish) {
    case PUBLISH_FCALL:
        buf_puts(out, "*8\r\n$5\r\nFCALL\r\n$11\r\nsse_publish\r\n$1\r\n1\r\n");
        put_key(out, o, "");
        put_fields(out, o, tag.topic, &p->payload);
        break;
    case PUBLISH_INBOX:
        buf_puts(out, "*7\r\n$4\r\nXADD\r\n");
        put_key(out, o, ":inbox");
        put_text(out, "*");
        put_fields(out, o, tag.topic, &p->payload);
        break;
    case PUBLISH_CHANNEL:
        buf_puts(out, "*3\r\n");
        put_publish(out, o, tag.topic, &p->payload);
        break;
    case PUBLISH_HTTP:
        put_post(out, o, tag.topic, &p->payload);
        break;
    }
}

static void take_answer(void *arg, uint64_t g, bool ok, uint64_t id)
{
    struct publisher *p = arg;
    const struct ledger_event *ev = ledger_get(p->ledger, g);
    if (ev->flags & LEDGER_MEASURED)
        histogram_add(&p->ack, loop_now_ns() - ev->at_ns);
    ledger_ack(p->ledger, g, ok, id);
}

bool publisher_init(struct publisher *p, struct loop *loop, const struct options *o,
                    struct ledger *ledger, const uint32_t *receivers)
{
    *p = (struct publisher){.options = o, .ledger = ledger, .receivers = receivers, .random = 1};
    p->owner = (struct link_owner){.format = format_event, .answer = take_answer, .arg = p};
    if (o->publish == PUBLISH_NONE)
        return true;
    p->links = mem_zero(o->publish_connections, sizeof(struct link *));
    for (uint64_t i = 0; i < o->publish_connections; i++) {
        p->links[i] = link_new(loop, o, &p->owner);
        if (!p->links[i])
            return false;
    }
    return true;
}

void publisher_reset(struct publisher *p)
{
    for (uint64_t i = 0; p->links && i < p->options->publish_connections; i++)
        link_free(p->links[i]);
    free(p->links);
    free((void *)p->owner.error);
    buf_reset(&p->payload);
    *p = (struct publisher){0};
}

void publisher_start(struct publisher *p)
{
    p->running = p->options->publish != PUBLISH_NONE;
    p->start_ns = loop_now_ns();
    p->due = 0;
}

/* A topic stays with its connection, so that its events keep their order. */
static struct link *choose_link(struct publisher *p, uint32_t topic)
{
    uint64_t n = p->options->publish_connections;
    if (p->options->topics.count > 1)
        return p->links[topic % n];
    struct link *best = p->links[0];
    for (uint64_t i = 1; i < n; i++)
        if (link_load(p->links[i]) < link_load(best))
            best = p->links[i];
    return best;
}

static uint64_t publish_at(struct publisher *p, uint32_t topic, uint64_t at_ns)
{
    uint64_t g = ledger_add(p->ledger, topic, p->receivers[topic], at_ns, p->flags);
    link_submit(choose_link(p, topic), g);
    return g;
}

uint64_t publisher_publish(struct publisher *p, uint32_t topic)
{
    return publish_at(p, topic, loop_now_ns());
}

static uint32_t pick_topic(struct publisher *p)
{
    uint32_t count = p->options->topics.count;
    if (p->options->pick == PICK_ROUND)
        return p->next_topic++ % count;
    p->random ^= p->random << 13; /* xorshift64: the same topics in every run */
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return (uint32_t)((p->random >> 11) % count);
}

static uint64_t due_ns(const struct publisher *p)
{
    return p->start_ns + (uint64_t)((double)p->due * 1e9 / (double)p->options->rate);
}

void publisher_turn(struct publisher *p)
{
    uint64_t now = loop_now_ns();
    if (p->running && p->options->rate) {
        for (; due_ns(p) <= now; p->due++)
            publish_at(p, pick_topic(p), due_ns(p));
    } else if (p->running && !(p->options->burst && p->ledger->open)) {
        while (p->ledger->open < p->options->window)
            publish_at(p, pick_topic(p), now);
    }
    for (uint64_t i = 0; p->links && i < p->options->publish_connections; i++)
        link_flush(p->links[i]);
}

void publisher_stop(struct publisher *p)
{
    publisher_turn(p); /* what is due by now is owed: a late event must not be left out */
    p->running = false;
}

uint64_t publisher_wake_ns(const struct publisher *p)
{
    return p->running && p->options->rate ? due_ns(p) : UINT64_MAX;
}

bool publisher_is_down(const struct publisher *p)
{
    for (uint64_t i = 0; p->links && i < p->options->publish_connections; i++)
        if (link_is_down(p->links[i]))
            return true;
    return false;
}
