/* SPDX-License-Identifier: Apache-2.0 */
/* The words of JSON (RFC 8259), for json.c and json_check.c only. */
#pragma once
#include "common/json.h"

struct json_scan {
    const char *at, *end;
    size_t odd_escapes; /* seen: those that cJSON cannot be given */
    size_t values;      /* at most, by their commas and brackets */
    size_t depth, deepest;
};

static inline bool json_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

void json_scan_space(struct json_scan *s);
/* Over white space and @c; false: something else is there. */
bool json_scan_char(struct json_scan *s, char c);
/* At a quote, and behind the string afterwards; false: it is none. Bytes above 0x7F are not looked
 * at. */
bool json_scan_string(struct json_scan *s);
/* At a digit or a minus; the same. */
bool json_scan_number(struct json_scan *s);
