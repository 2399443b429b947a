/* SPDX-License-Identifier: Apache-2.0 */
#include "lanes_reader.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void lanes_reader_begin(struct lanes_reader *r, bool chunked)
{
    *r = (struct lanes_reader){.chunked = chunked, .state = chunked ? READ_HEAD : READ_BODY};
}

static const char *value_of(const char *line, const char *name)
{
    size_t len = strlen(name);
    return strncmp(line, name, len) == 0 ? line + len : NULL;
}

static void take_line(struct lanes_reader *r)
{
    const char *value;
    struct lanes_block *block = &r->block;
    if ((value = value_of(r->line, "id: "))) {
        block->id = strtoull(value, NULL, 10);
        block->has_id = r->any_id = true;
    } else if ((value = value_of(r->line, "event: "))) {
        snprintf(block->type, sizeof(block->type), "%.31s", value);
    } else if ((value = value_of(r->line, "data: "))) {
        r->broken |= block->data[0] != '\0';
        snprintf(block->data, sizeof(block->data), "%s", value);
    } else if (r->line[0] != ':') {
        r->broken = true;
    }
}

static bool take_text(struct lanes_reader *r, char byte)
{
    bool begins = r->len == 0;
    if (byte != '\n') {
        r->broken |= r->len + 1 >= sizeof(r->line);
        if (r->broken)
            return false;
        r->line[r->len++] = byte;
        return false;
    }
    r->line[r->len] = '\0';
    r->len = 0;
    if (!begins) {
        take_line(r);
        return false;
    }
    r->block.forgets = !r->any_id;
    r->complete = true;
    return true;
}

static void take_head(struct lanes_reader *r, char byte)
{
    if (byte == '\n') {
        r->state = r->left ? READ_BODY : READ_LAST;
    } else if (isxdigit((unsigned char)byte)) {
        char digit[2] = {byte, '\0'};
        r->left = r->left * 16 + strtoul(digit, NULL, 16);
    } else {
        r->broken |= byte != '\r';
    }
}

static bool take_body(struct lanes_reader *r, char byte)
{
    if (r->chunked && --r->left == 0) {
        r->state = READ_TAIL;
        r->left = 2;
    }
    return take_text(r, byte);
}

bool lanes_reader_take(struct lanes_reader *r, char byte)
{
    if (r->complete) /* the block before was the caller's until now */
        r->block = (struct lanes_block){0};
    r->complete = false;
    switch (r->state) {
    case READ_HEAD:
        take_head(r, byte);
        return false;
    case READ_BODY:
        return take_body(r, byte);
    case READ_TAIL:
        r->broken |= byte != (r->left == 2 ? '\r' : '\n');
        if (--r->left == 0)
            r->state = READ_HEAD;
        return false;
    case READ_LAST:
        r->broken |= byte != '\r' && byte != '\n';
        return false;
    }
    return false;
}
