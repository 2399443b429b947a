/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/memory/memory_calls.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "relay/memory/memory_revoked.h"
#include "relay/memory/memory_tickets.h"

enum { REVOKED_BYTES_MAX = 1024, DAY_S = 86400, LEEWAY_S = 600 };
#define TICKET_LIFE_MS (UINT64_C(30) * DAY_S * 1000) /* where its token has no end */
#define NUMBER_MAX ((UINT64_C(1) << 53) - 1)

struct memory_calls {
    struct memory_tickets *tickets;
    struct memory_revoked *revoked;
};

/* What a function is called with. */
struct run {
    struct memory_calls *calls;
    struct store_call *call;
    const struct config *config;
    uint64_t now_us;
    struct buf *told;
};

/* --- arguments and answers -------------------------------------------------------------------- */

static enum err say(struct store_call *call, const char *text)
{
    strings_add(&call->answer, slice_of(text));
    return OK;
}

static enum err refuse(struct store_call *call, const char *what)
{
    struct buf text = {0};
    buf_printf(&text, "ERR %s: %s", call->function, what);
    strings_add(&call->answer, buf_slice(&text));
    buf_reset(&text);
    return ERR_DENIED;
}

/* That of a pair which begins at @first or behind; NULL: there is none. */
static const char *option(const struct store_call *call, size_t first, const char *name)
{
    const struct strings *args = call->args;
    for (size_t i = first; i + 1 < args->count; i += 2)
        if (strcmp(args->items[i], name) == 0)
            return args->items[i + 1];
    return NULL;
}

static bool number(const struct store_call *call, size_t first, const char *name, uint64_t *out)
{
    const char *text = option(call, first, name);
    return text && slice_u64(slice_of(text), NUMBER_MAX, out) == OK;
}

static struct slice ticket_hash(const struct store_call *call)
{
    return call->args->count ? slice_of(call->args->items[0]) : SLICE_LIT("");
}

/* --- tickets ---------------------------------------------------------------------------------- */

static enum err run_ticket(struct run *run)
{
    struct store_call *call = run->call;
    uint64_t ttl_ms, until_s, now_ms = run->now_us / 1000;
    const char *grant = option(call, 1, "grant");
    if (!grant || !number(call, 1, "ttl", &ttl_ms) || !number(call, 1, "until", &until_s))
        return refuse(call, "grant, ttl or until: missing");
    uint64_t until_ms = until_s ? until_s * 1000 : now_ms + TICKET_LIFE_MS;
    enum err e = memory_tickets_put(run->calls->tickets, slice_of(call->ns), ticket_hash(call),
                                    slice_of(grant), ttl_ms, until_ms, now_ms);
    if (e == ERR_FULL)
        return refuse(call, "full: no more tickets are kept in memory");
    if (e)
        return refuse(call, e == ERR_RANGE ? "until: is over" : "hash: there is a ticket with it");
    return say(call, "OK");
}

static enum err run_ticket_take(struct run *run)
{
    struct store_call *call = run->call;
    uint64_t cursor, grace_ms, peek = 0;
    const char *connection = option(call, 1, "connection"), *grant, *previous;
    if (!connection || !number(call, 1, "cursor", &cursor) || !number(call, 1, "grace", &grace_ms))
        return refuse(call, "connection, cursor or grace: missing");
    (void)number(call, 1, "peek", &peek);
    enum err e = memory_tickets_take(run->calls->tickets, slice_of(call->ns), ticket_hash(call),
                                     slice_of(connection), cursor != 0, grace_ms, peek != 0,
                                     run->now_us / 1000, &grant, &previous);
    say(call, e ? "no" : "ok");
    if (e == ERR_NOT_FOUND)
        return say(call, "there is no such ticket, or no longer");
    if (e)
        return say(call, e == ERR_DENIED
                             ? "it was used"
                             : "it was used, and this is no reconnect: it has no cursor");
    say(call, grant);
    return say(call, previous);
}

static enum err run_ticket_end(struct run *run)
{
    struct store_call *call = run->call;
    uint64_t unused, grace_ms;
    const char *connection = option(call, 1, "connection");
    if (!connection || !number(call, 1, "unused", &unused) || !number(call, 1, "grace", &grace_ms))
        return refuse(call, "connection, grace or unused: missing");
    memory_tickets_end(run->calls->tickets, slice_of(call->ns), ticket_hash(call),
                       slice_of(connection), grace_ms, unused != 0, run->now_us / 1000);
    return say(call, "OK");
}

/* --- revocations ------------------------------------------------------------------------------ */

static const char *const kinds[REVOKED_KINDS] = {"jti", "sub", "kid"};

/* NULL, or what is wrong; the entry's value is borrowed from the arguments. */
static const char *revoke_parse(const struct run *run, struct revoked_entry *entry)
{
    uint64_t now_s = run->now_us / 1000000, before_s = now_s;
    bool has_before = option(run->call, 0, "before") != NULL;
    for (int k = 0; k < REVOKED_KINDS; k++) {
        const char *value = option(run->call, 0, kinds[k]);
        if (value && entry->value)
            return "jti, sub or kid: only one of them";
        if (value)
            *entry = (struct revoked_entry){.kind = (enum revoked_kind)k, .value = (char *)value};
    }
    if (!entry->value)
        return "jti, sub or kid: missing";
    if (!entry->value[0] || strlen(entry->value) > REVOKED_BYTES_MAX)
        return "jti, sub or kid: not 1 to 1024 bytes";
    if (has_before && entry->kind != REVOKED_SUBJECT)
        return "before: only with sub";
    if (has_before && !number(run->call, 0, "before", &before_s))
        return "before: not an integer from 0 to 2^53 - 1";
    if (before_s > now_s + DAY_S)
        return "before: more than a day ahead (it is a Unix time in seconds)";
    entry->before_s = entry->kind == REVOKED_SUBJECT ? before_s : 0;
    return NULL;
}

static uint64_t revoke_expiry(const struct run *run, const struct revoked_entry *entry)
{
    uint64_t life_s = (run->config->auth_max_token_life_ms + 999) / 1000;
    uint64_t now_s = run->now_us / 1000000;
    if (entry->kind == REVOKED_KID || !life_s)
        return 0;
    return (entry->before_s > now_s ? entry->before_s : now_s) + life_s + LEEWAY_S;
}

static enum err run_revoke(struct run *run)
{
    struct revoked_entry entry = {0};
    const char *fault = revoke_parse(run, &entry);
    if (fault)
        return refuse(run->call, fault);
    entry.expires_s = revoke_expiry(run, &entry);
    if (memory_revoked_add(run->calls->revoked, slice_of(run->call->ns), &entry,
                           run->now_us / 1000000))
        return refuse(run->call, "full: no more of the kind are kept in memory; nothing was "
                                 "changed");
    buf_printf(run->told, "{\"kind\":\"%s\",\"value\":", kinds[entry.kind]);
    json_put_string(run->told, slice_of(entry.value));
    buf_printf(run->told, ",\"before\":\"%" PRIu64 "\",\"expires\":\"%" PRIu64 "\"}",
               entry.before_s, entry.expires_s);
    return say(run->call, "OK");
}

static void on_listed(void *arg, const struct revoked_entry *entry)
{
    struct store_call *call = arg;
    struct buf digits = {0};
    say(call, kinds[entry->kind]);
    say(call, entry->value);
    buf_put_u64(&digits, entry->before_s);
    strings_add(&call->answer, buf_slice(&digits));
    buf_clear(&digits);
    buf_put_u64(&digits, entry->expires_s);
    strings_add(&call->answer, buf_slice(&digits));
    buf_reset(&digits);
}

static enum err run_revoked(struct run *run)
{
    memory_revoked_list(run->calls->revoked, slice_of(run->call->ns), run->now_us / 1000000,
                        on_listed, run->call);
    return OK;
}

/* --- all of them ------------------------------------------------------------------------------ */

enum err memory_calls_run(struct memory_calls *calls, struct store_call *call,
                          const struct config *config, uint64_t now_us, struct buf *told)
{
    static const struct {
        const char *name;
        enum err (*run)(struct run *run);
    } functions[] = {{"sse_ticket", run_ticket},
                     {"sse_ticket_take", run_ticket_take},
                     {"sse_ticket_end", run_ticket_end},
                     {"sse_revoke", run_revoke},
                     {"sse_revoked", run_revoked}};
    struct run run = {calls, call, config, now_us, told};
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
        if (strcmp(call->function, functions[i].name) == 0)
            return functions[i].run(&run);
    abort(); /* nobody calls others */
}

struct memory_calls *memory_calls_new(size_t tickets, size_t revoked)
{
    struct memory_calls *calls = mem_zero(1, sizeof(*calls));
    calls->tickets = memory_tickets_new(tickets);
    calls->revoked = memory_revoked_new(revoked);
    return calls;
}

void memory_calls_free(struct memory_calls *calls)
{
    if (!calls)
        return;
    memory_tickets_free(calls->tickets);
    memory_revoked_free(calls->revoked);
    free(calls);
}
