/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/connection_id.h"

#include <stdlib.h>
#include <string.h>

static char *put_hex(char *at, uint64_t value, size_t digits)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = digits; i-- > 0; value >>= 4)
        at[i] = hex[value & 15];
    return at + digits;
}

/* By hand: each stream is told its own, and printf() takes ten times as long. */
void connection_id_put(struct buf *b, const struct connection_id *id)
{
    char text[CONNECTION_ID_CHARS], *at = text;
    at = put_hex(at, id->tag, 8);
    at = put_hex(at, id->worker, 2);
    at = put_hex(at, id->slot, 6);
    put_hex(at, id->secret, 16);
    buf_put(b, text, sizeof(text));
}

static uint64_t take_hex(const char **at, size_t digits)
{
    char text[17];
    memcpy(text, *at, digits);
    text[digits] = '\0';
    *at += digits;
    return strtoull(text, NULL, 16);
}

enum err connection_id_parse(struct slice text, struct connection_id *out)
{
    if (text.len != CONNECTION_ID_CHARS)
        return ERR_INVALID;
    for (size_t i = 0; i < text.len; i++)
        if (!strchr("0123456789abcdef", text.ptr[i]) || !text.ptr[i])
            return ERR_INVALID;
    const char *at = text.ptr;
    out->tag = (uint32_t)take_hex(&at, 8);
    out->worker = (uint32_t)take_hex(&at, 2);
    out->slot = (uint32_t)take_hex(&at, 6);
    out->secret = take_hex(&at, 16);
    return OK;
}
