/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns with places to fill: "user.{sub}", "org.{/org/id}.*". What is filled in is always one
 * whole token, and of two values never the same one. Immutable. No I/O. docs/protocol.md, 14. */
#pragma once
#include "common/buf.h"
#include "common/strings.h"

enum {
    STENCIL_PLACES_MAX = 8,  /* different ones in a stencil */
    STENCIL_FILLED_MAX = 64, /* patterns that one stencil comes to */
};

struct stencil;

/* @text: a pattern, of which tokens may be {name} or {/json/pointer}. NULL: *out is new; else the
 * reason in words ("expected …"), static. */
const char *stencil_new(struct slice text, struct stencil **out);
void stencil_free(struct stencil *t);
struct slice stencil_text(const struct stencil *t); /* as it was given; borrowed */
size_t stencil_place_count(const struct stencil *t);
struct slice stencil_place(const struct stencil *t, size_t i); /* without the braces; borrowed */

/* Appends the values of @place (a list: several). NULL: that is all; else why not all, or none, are
 * there: static words that follow "{place}: ". */
typedef const char *stencil_look(const void *arg, struct slice place, struct strings *values);
enum stencil_values {
    STENCIL_TEXTS,  /* any: written as one token (stencil_put_token) */
    STENCIL_TOKENS, /* valid tokens: as they are */
};
/* Appends the patterns that it comes to: one for each combination of values. A value that is empty,
 * or makes the pattern too long, gives none. *why (appended) says why there are not more. */
size_t stencil_fill(const struct stencil *t, enum stencil_values kind, stencil_look *look,
                    const void *arg, struct strings *out, struct buf *why);

/* Appends @value as one token: . * > % space, control characters and bytes that are not UTF-8
 * become %XX. */
void stencil_put_token(struct buf *b, struct slice value);
