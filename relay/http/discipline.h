/* SPDX-License-Identifier: Apache-2.0 */
/* Judges an HTTP message before anything else acts on it: what is accepted has one reading, whoever
 * stands in front (RFC 9110, RFC 9112). No I/O, no state, no allocation; any thread.
 *
 * libmicrohttpd 0.9.75 lets nearly everything pass; from 1.0 on it refuses much by itself, so most
 * rules are for the old one. What only the library can judge: a version other than HTTP/1.x, a line
 * without a colon, a Content-Length that is no number (for 0.9.75 also one with white space behind
 * it), and chunks. Those it ends the connection for, but 0.9.75 takes a bare LF at the end of a
 * chunk line for CRLF (so that connections end behind chunks: front_judge.c), and refuses white
 * space before a chunk's extension. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct discipline_field {
    struct slice name, value; /* as libmicrohttpd hands them out */
};

struct discipline_message {
    struct slice method;
    struct slice target; /* as it came, before it is unescaped: a copy from the URI log callback */
    struct slice version;
    const struct discipline_field *fields; /* in their order, with those that stand twice */
    size_t field_count;
    /* The header's bytes from the method to the blank line as libmicrohttpd has left them, with
     * NULs where pieces end; version and fields point into it. It shows what they do not: folded
     * lines (0.9.75 makes "Content-Length: 60" of "Content-Len: 60" with "gth" on a line of its
     * own), NULs (it cuts there), bare LFs, a line ": x" (it takes that for the header's end), more
     * than one space in the request line. SLICE_NONE: not known, and nothing of it is judged. */
    struct slice block;
};

struct discipline_limits {
    size_t max_fields;
    uint64_t max_body_bytes; /* that a Content-Length may announce */
};

enum discipline_body { DISCIPLINE_NO_BODY, DISCIPLINE_LENGTH, DISCIPLINE_CHUNKED };
enum discipline_coding { DISCIPLINE_PLAIN, DISCIPLINE_GZIP, DISCIPLINE_DEFLATE };

/* What the others may rely on. Slices are the message's. Values are trimmed and have no control
 * characters but tabs; SLICE_NONE: there is no such field. */
struct discipline_facts {
    struct slice path;  /* "*" for OPTIONS only, else from the first slash on; still encoded */
    struct slice query; /* behind the first question mark, still encoded; SLICE_NONE: no mark */
    struct slice host;  /* host[:port], the target's before that of Host; may be empty */
    struct slice authorization, origin, last_event_id, content_type, slow, buffer;
    enum discipline_body body;
    uint64_t content_length; /* with DISCIPLINE_LENGTH */
    enum discipline_coding coding;
    bool expects_continue; /* waits for a 100 before it sends its body */
};

/* Why a message is refused, the first reason that is found. */
enum discipline_fault {
    DISCIPLINE_FINE,
    DISCIPLINE_METHOD,
    DISCIPLINE_VERSION_FORM,
    DISCIPLINE_VERSION,
    DISCIPLINE_FIELDS,
    DISCIPLINE_LINES,
    DISCIPLINE_NAME,
    DISCIPLINE_NAME_SPACE,
    DISCIPLINE_NAME_FOLDED,
    DISCIPLINE_VALUE,
    DISCIPLINE_TARGET_BYTES,
    DISCIPLINE_TARGET_FRAGMENT,
    DISCIPLINE_TARGET_FORM,
    DISCIPLINE_TARGET_HOST,
    DISCIPLINE_PATH_BYTES,
    DISCIPLINE_PATH_ESCAPE,
    DISCIPLINE_PATH_CONTROL,
    DISCIPLINE_LENGTH_TWICE,
    DISCIPLINE_CHUNKED_TWICE,
    DISCIPLINE_CHUNKED_AND_LENGTH,
    DISCIPLINE_CHUNKED_OLD,
    DISCIPLINE_CHUNKED_EMPTY,
    DISCIPLINE_CHUNKED_NOT,
    DISCIPLINE_CHUNKED_SPACE,
    DISCIPLINE_LENGTH_FORM,
    DISCIPLINE_LENGTH_LARGE,
    DISCIPLINE_HOST_TWICE,
    DISCIPLINE_HOST_NONE,
    DISCIPLINE_HOST_FORM,
    DISCIPLINE_AUTHORIZATION_TWICE,
    DISCIPLINE_ORIGIN_TWICE,
    DISCIPLINE_LAST_EVENT_ID_TWICE,
    DISCIPLINE_SSE_SLOW_TWICE,
    DISCIPLINE_SSE_BUFFER_TWICE,
    DISCIPLINE_CONTENT_TYPE_TWICE,
    DISCIPLINE_CONTENT_ENCODING_TWICE,
    DISCIPLINE_CONTENT_ENCODING_LIST,
    DISCIPLINE_CONTENT_ENCODING_OTHER,
    DISCIPLINE_EXPECT,
    DISCIPLINE_FAULTS
};

struct discipline_refusal {
    unsigned status;
    const char *detail; /* one sentence, which begins with the field that is to blame */
    bool close;         /* the connection must end with the answer: where the message ends is in
                           doubt, or its body will not be read */
};

/* *out is written only on DISCIPLINE_FINE. */
NODISCARD enum discipline_fault discipline_judge(const struct discipline_message *message,
                                                 const struct discipline_limits *limits,
                                                 struct discipline_facts *out);
/* Static. Not for DISCIPLINE_FINE. A 415 for a Content-Encoding should name in Accept-Encoding what
 * is taken (RFC 9110, 15.5.16). */
const struct discipline_refusal *discipline_refusal(enum discipline_fault fault);

/* Appends the path of accepted facts as routes compare it (RFC 3986, 6.2.2): letters, digits and
 * "-._~" that came encoded are themselves, all else that did stays encoded, with large letters. So
 * /%70ublish is /publish, and %2F separates nothing. Dot segments stay: no route of ours has any.
 */
void discipline_put_path(struct buf *b, struct slice path);
