/* SPDX-License-Identifier: Apache-2.0 */
/* What others want of streams that have a grant: their end, or another grant. docs/protocol.md, 14.
 */
#include <assert.h>
#include <stdlib.h>

#include "common/json.h"
#include "relay/fanout/fanout_parts.h"

static struct grant *grant_of(const struct stream *s)
{
    return subscription_request(s->client.sub)->grant;
}

/* --- revocations ------------------------------------------------------------------------------ */

struct revocation {
    const struct note_revoked *note;
    const struct revoked_entry *subject; /* while those of one are visited */
    struct revoked *others;              /* entries of other kinds that have been gathered … */
    size_t count;                        /* … so many */
};

static void end_if_subject(struct lease *lease, void *arg)
{
    const struct revocation *r = arg;
    struct stream *s = stream_of_lease(lease);
    if (slice_is(subscription_ns(s->client.sub), r->note->ns) &&
        revoked_entry_concerns(r->subject, grant_of(s)))
        stream_end(s, CLOSE_REVOKED);
}

static void end_if_other(struct lease *lease, void *arg)
{
    const struct revocation *r = arg;
    struct stream *s = stream_of_lease(lease);
    if (revoked_has(r->others, grant_of(s)))
        stream_end(s, CLOSE_REVOKED);
}

/* There is no table of token and key ids, as they are revoked seldom: one walk over all leases
 * serves as many as came together. */
static void end_others(struct fanout *f, struct revocation *r)
{
    if (r->count)
        leases_visit(f->shared.leases, end_if_other, r);
    revoked_free(r->others);
    r->others = NULL;
    r->count = 0;
}

static void gather_other(struct fanout *f, struct revocation *r, const struct revoked_entry *entry)
{
    if (!r->others)
        r->others = revoked_new();
    enum err e = revoked_add(r->others, slice_of(r->note->ns), entry);
    assert(!e);
    (void)e;
    if (++r->count == REVOKED_MAX)
        end_others(f, r);
}

/* Nobody can tell any more who was revoked there: they come again, and wait until somebody can. */
static void end_if_there(struct lease *lease, void *arg)
{
    const struct revocation *r = arg;
    struct stream *s = stream_of_lease(lease);
    if (slice_is(subscription_ns(s->client.sub), r->note->ns))
        stream_end(s, CLOSE_DRAIN);
}

void fanout_revoke(struct fanout *f, const struct note_revoked *note)
{
    struct revocation r = {.note = note};
    if (note->forgotten)
        leases_visit(f->shared.leases, end_if_there, &r);
    for (size_t i = 0; i < note->count; i++) {
        const struct revoked_entry *entry = &note->entries[i];
        if (entry->kind != REVOKED_SUBJECT) {
            gather_other(f, &r, entry);
            continue;
        }
        r.subject = entry;
        leases_visit_subject(f->shared.leases, slice_of(note->ns), slice_of(entry->value),
                             end_if_subject, &r);
    }
    end_others(f, &r);
}

/* --- another grant -----------------------------------------------------------------------------
 */

/* The first that the stream asks for and the grant does not cover; NULL: there is none. */
static const char *find_uncovered(const struct stream *s, const struct grant *grant)
{
    const struct strings *topics = &subscription_request(s->client.sub)->topics;
    uint32_t count = stream_count_asked(s); /* its connection's topic takes no grant */
    for (size_t i = 0; i < count; i++)
        if (!grant_may_subscribe(grant, slice_of(topics->items[i])))
            return topics->items[i];
    return NULL;
}

static bool has_all_values(const struct grant_claim *claim, const struct strings *values)
{
    for (size_t i = 0; i < values->count; i++)
        if (!strings_have(&claim->values, slice_of(values->items[i])))
            return false;
    return true;
}

static bool has_role(const struct grant_fields *grant, const struct grant_claim *role)
{
    for (size_t i = 0; i < grant->role_count; i++)
        if (slice_is(slice_of(grant->roles[i].name), role->name))
            return has_all_values(&grant->roles[i], &role->values);
    return role->values.count == 0;
}

/* Which roles the stream's path asked for is not known here. Who still has all that he came with
 * has those, too; everybody else is to ask anew. */
static bool has_all_roles(const struct grant *fresh, const struct grant *old)
{
    const struct grant_fields *fields = grant_fields(old);
    for (size_t i = 0; i < fields->role_count; i++)
        if (!has_role(grant_fields(fresh), &fields->roles[i]))
            return false;
    return true;
}

static void refuse_topic(struct note_control *note, const char *topic)
{
    struct buf detail = {0};
    buf_printf(&detail,
               "the new token does not grant %s, which this stream has; it goes on with "
               "the old one",
               topic);
    note->status = 403;
    note->detail = buf_take(&detail, NULL);
}

static void renew(struct stream *s, struct note_control *note, struct grant *grant,
                  const struct revoked *revoked)
{
    const char *uncovered = NULL;
    const struct subscription_request *asked = subscription_request(s->client.sub);
    if (!grant_is_same_subject(grant_of(s), grant)) {
        note_control_answer(note, 403,
                            "the new token is not of the subject, issuer and namespace that this "
                            "stream was opened with");
    } else if (revoked_has(revoked, grant)) {
        note_control_answer(note, 403, "the new token has been revoked");
    } else if (asked->route_requires && !has_all_roles(grant, grant_of(s))) {
        note_control_answer(note, 403,
                            "the new token lacks a role of the old one, and this stream's path may "
                            "ask for it: connect again with the new token");
    } else if (!asked->route_grants && (uncovered = find_uncovered(s, grant))) {
        refuse_topic(note, uncovered);
    } else {
        stream_renew(s, grant);
        note->status = 200;
    }
}

void fanout_take_renewal(struct stream *s, struct note_control *note, const struct revoked *revoked)
{
    struct grant *grant;
    if (grant_parse_json(slice_of(note->body), &grant)) {
        note_control_answer(note, 403, "what came as the new grant cannot be read");
        return;
    }
    renew(s, note, grant, revoked);
    grant_unref(grant);
}
