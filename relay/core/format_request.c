/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/format_request.h"

#include <string.h>

const char *const format_request_names[] = {"format", "type_from_topic", NULL};

static enum err set_format(struct format_request *f, struct slice text, struct buf *why)
{
    f->is_json = slice_is(text, "json");
    f->has_format = f->is_json || slice_is(text, "plain");
    if (f->has_format)
        return OK;
    buf_puts(why, "expected json or plain");
    return ERR_INVALID;
}

static enum err set_naming(struct format_request *f, struct slice text, struct buf *why)
{
    f->type_from_topic = slice_is(text, "1") || slice_is(text, "true");
    f->has_naming = f->type_from_topic || slice_is(text, "0") || slice_is(text, "false");
    if (f->has_naming)
        return OK;
    buf_puts(why, "expected 1 or true, 0 or false");
    return ERR_INVALID;
}

enum err format_request_set(struct format_request *f, const char *name, struct slice text,
                            struct buf *why)
{
    return strcmp(name, "format") == 0 ? set_format(f, text, why) : set_naming(f, text, why);
}

void format_request_put(const struct format_request *f, struct buf *out)
{
    if (f->has_format)
        buf_puts(out, f->is_json ? "; format json" : "; format plain");
    if (f->has_naming)
        buf_puts(out, f->type_from_topic ? "; type_from_topic on" : "; type_from_topic off");
}

void format_request_merge(struct format_request *f, const struct format_request *other)
{
    if (!f->has_format) {
        f->is_json = other->is_json;
        f->has_format = other->has_format;
    }
    if (!f->has_naming) {
        f->type_from_topic = other->type_from_topic;
        f->has_naming = other->has_naming;
    }
}

uint8_t format_request_settle(const struct format_request *f, bool configured)
{
    uint8_t format = f->is_json ? EVENT_AS_JSON : EVENT_PLAIN;
    if (f->has_naming && f->type_from_topic != configured)
        format |= EVENT_SWAPS_TYPE;
    return format;
}
