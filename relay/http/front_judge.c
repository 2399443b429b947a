/* SPDX-License-Identifier: Apache-2.0 */
/* What libmicrohttpd hands out of a request, put before discipline.h, which judges it. */
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/http/front_parts.h"

enum { FIELDS_MAX = 128 };

struct fields {
    struct discipline_field items[FIELDS_MAX + 1]; /* one more tells that there are too many */
    size_t count;
};

/* Lets nearly everything pass, and leaves the header's bytes in the form that discipline.h knows.
 * From 1.0 on libmicrohttpd refuses by itself what they show. */
bool front_judge_is_lax(void)
{
    return strncmp(MHD_get_version(), "0.9.", 4) == 0;
}

void front_judge_keep_target(struct front_peer *peer, const char *target)
{
    free(peer->target);
    peer->target = mem_dup(target, strlen(target));
}

static enum MHD_Result add_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct fields *fields = cls;
    fields->items[fields->count++] =
        (struct discipline_field){{name, name_len}, {value ? value : "", value ? value_len : 0}};
    return fields->count <= FIELDS_MAX ? MHD_YES : MHD_NO;
}

static struct slice header_block(const struct front_call *call)
{
    /* Read in another way than they lie there they would refuse every request. */
    if (!call->front->lax || !call->front->limits.slim)
        return SLICE_NONE;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? (struct slice){call->request->raw_method, info->header_size} : SLICE_NONE;
}

const struct discipline_refusal *front_judge_message(struct front_call *call, const char *version)
{
    static const struct discipline_limits limits = {
        .max_fields = FIELDS_MAX,
        .max_body_bytes = UINT64_MAX, /* front_body.c has a bound, and more to say */
    };
    struct front_request *request = call->request;
    struct fields fields;
    fields.count = 0;
    MHD_get_connection_values_n(call->connection, MHD_HEADER_KIND, add_field, &fields);
    const struct discipline_message message = {.method = slice_of(request->raw_method),
                                               .target = slice_of(request->target),
                                               .version = slice_of(version),
                                               .fields = fields.items,
                                               .field_count = fields.count,
                                               .block = header_block(call)};
    enum discipline_fault fault = discipline_judge(&message, &limits, &request->facts);
    if (fault)
        return discipline_refusal(fault);
    discipline_put_path(&request->path, request->facts.path);
    /* Nobody sees the lines between chunks, and all versions take LF alone for the end of one:
     * where a proxy reads other ends, what follows may be part of this body. */
    request->close = request->facts.body == DISCIPLINE_CHUNKED;
    return NULL;
}
