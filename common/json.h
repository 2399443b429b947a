/* SPDX-License-Identifier: Apache-2.0 */
/* JSON from strangers: length-bounded, depth-bounded, NUL-aware parsing on top of cJSON, and
 * writing of strings. cJSON ends strings at NUL, and takes no half of a surrogate pair; so an
 * escaped NUL (backslash u0000) and such a half (backslash ud83d alone) are replaced before
 * parsing: by LF, which no field but `data` may contain, so that it is noticed. */
#pragma once
#include <cjson/cJSON.h>
#include "common/buf.h"
#include "common/slice.h"

/* A tree takes some 80 bytes for each value, forty times what it takes to write one: no text with
 * more of them is parsed. */
enum { JSON_VALUES_MAX = 250000 };
/* Arrays and objects within each other: cJSON's own bound, as its parser calls itself. */
enum { JSON_DEPTH_MAX = 1000 };

/* Parses all of @text (trailing white space allowed, trailing bytes not). The caller owns *out:
 * cJSON_Delete(). ERR_INVALID; ERR_RANGE: it has more than JSON_VALUES_MAX values; ERR_FULL: it is
 * nested deeper than JSON_DEPTH_MAX. */
NODISCARD enum err json_parse(struct slice text, cJSON **out);

/* The same. ERR_INVALID: *wrong_at is the offset in @text of what could not be read; at most its
 * length. */
NODISCARD enum err json_parse_where(struct slice text, cJSON **out, size_t *wrong_at);

/* For text that came through Redis: bytes inside strings need not be UTF-8, an escaped NUL is
 * dropped, and half of a surrogate pair becomes U+FFFD. The same errors. */
NODISCARD enum err json_parse_lenient(struct slice text, cJSON **out);

/* Raw text is what a value was written as: numbers keep their digits this way (cJSON has doubles
 * only). These two are for text that json_parse() accepted. */
/* That of member @name of the object @text. ERR_NOT_FOUND, also where @text is no object. */
NODISCARD enum err json_raw_member(struct slice text, const char *name, struct slice *out);
/* That of the next element: cut off *rest, which is the whole array's at first. False: there was
 * none left, or @rest is no array's. */
bool json_raw_next(struct slice *rest, struct slice *out);

/* Whether all of @text is JSON (RFC 8259), which is UTF-8, as the caller knows; without a byte
 * order mark, and not deeper than JSON_DEPTH_MAX. Of any size: nothing is made of it. */
bool json_is_valid(struct slice text);

/* Appends JSON without the white space between its words: so it is one line, and numbers and
 * strings are as they were. */
NODISCARD enum err json_put_dense(struct buf *b, struct slice raw);
/* Appends what is sent for a raw JSON value: a string's own text with NUL dropped, other JSON
 * without white space. */
NODISCARD enum err json_put_data(struct buf *b, struct slice raw);

/* Appends @s quoted and escaped; bytes that are not UTF-8 become U+FFFD. */
void json_put_string(struct buf *b, struct slice s);
