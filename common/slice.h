/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed run of bytes. Length beats NUL: the bytes may hold any value and are not terminated.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/err.h"

struct slice {
    const char *ptr; /* NULL: absent (an empty string has a pointer) */
    size_t len;
};

#define SLICE_NONE ((struct slice){NULL, 0})
#define SLICE_LIT(s) ((struct slice){"" s, sizeof(s) - 1})

struct slice slice_of(const char *text); /* NULL gives SLICE_NONE */
bool slice_eq(struct slice a, struct slice b);
bool slice_eq_nocase(struct slice a, const char *text); /* ASCII only */
bool slice_is(struct slice a, const char *text);
bool slice_has_prefix(struct slice a, struct slice prefix);
/* Without spaces and tabs at both ends ("OWS": RFC 9110, 5.6.3). */
struct slice slice_trim(struct slice s);
/* Cuts off and returns what stands before the first @mark in *rest, which is then what follows that
 * mark; SLICE_NONE: there was none, so this was the last part. */
struct slice slice_cut(struct slice *rest, char mark);
/* A byte below 0x20, or 0x7F (DEL). The space is none; U+0080 to U+009F, two bytes each in UTF-8,
 * are none either. */
bool slice_has_control(struct slice s);
char *slice_dup(struct slice s); /* NUL added; SLICE_NONE gives NULL */

/* Strict UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
bool slice_utf8_valid(struct slice s);
/* Length of the longest prefix that is valid UTF-8; *bad is the length of the maximal subpart
 * behind it that a decoder replaces by one U+FFFD (0: all of @s is valid). */
size_t slice_utf8_prefix(struct slice s, size_t *bad);

/* Decimal digits only: no sign, no space, no leading zeros but "0" itself. ERR_INVALID, or
 * ERR_RANGE above @max. */
NODISCARD enum err slice_u64(struct slice s, uint64_t max, uint64_t *out);
/* "250ms", "15s", "10m", "1h", "7d"; "0" needs no unit. Result in milliseconds. */
NODISCARD enum err slice_duration_ms(struct slice s, uint64_t *out_ms);
/* "4096", "64KB", "1MB", "2GB" (powers of 1024). Result in bytes. */
NODISCARD enum err slice_size(struct slice s, uint64_t *out_bytes);
