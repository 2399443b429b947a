/* JSON from strangers: length-bounded, depth-bounded, NUL-aware parsing on top of cJSON, and
 * writing of strings. cJSON ends strings at NUL; so an escaped NUL (backslash u0000) is replaced
 * before parsing: by LF, which no field but `data` may contain, so that it is noticed. */
#pragma once
#include <cjson/cJSON.h>
#include "common/buf.h"
#include "common/slice.h"

/* A tree takes some 80 bytes for each value, forty times what it takes to write one: no text with
 * more of them is parsed. */
enum { JSON_VALUES_MAX = 250000 };

/* Parses all of @text (trailing white space allowed, trailing bytes not). The caller owns *out:
 * cJSON_Delete(). ERR_INVALID; ERR_RANGE: it has more than JSON_VALUES_MAX values. */
NODISCARD enum err json_parse(struct slice text, cJSON **out);

/* For text that came through Redis: bytes inside strings need not be UTF-8, and an escaped NUL is
 * dropped. The same errors. */
NODISCARD enum err json_parse_lenient(struct slice text, cJSON **out);

/* Raw text of member @name of the @index-th object of @text: an object (@index 0) or an array of
 * objects. Only for text that json_parse() accepted. Numbers keep their digits this way (cJSON has
 * doubles only). ERR_NOT_FOUND. */
NODISCARD enum err json_raw_member(struct slice text, size_t index, const char *name,
                                   struct slice *out);

/* Appends what is sent for a raw JSON value: a string's own text with NUL dropped, other JSON
 * without white space. */
NODISCARD enum err json_put_data(struct buf *b, struct slice raw);

/* Appends @s quoted and escaped; bytes that are not UTF-8 become U+FFFD. */
void json_put_string(struct buf *b, struct slice s);
