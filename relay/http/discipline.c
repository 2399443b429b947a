/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/http/discipline.h"

#include "common/origin.h"
#include "relay/http/discipline_parts.h"

/* --- what the answers say --------------------------------------------------------------------- */

static const struct discipline_refusal refusals[DISCIPLINE_FAULTS] = {
    [DISCIPLINE_METHOD] = {400, "the request line's method is no word such as GET or POST", true},
    [DISCIPLINE_VERSION_FORM] = {400, "the request line does not end with HTTP/1.1", true},
    [DISCIPLINE_VERSION] = {505, "this relay speaks HTTP/1.1 and HTTP/1.0", true},
    [DISCIPLINE_FIELDS] = {431, "the request has more headers than this relay takes", true},
    [DISCIPLINE_LINES] = {400,
                          "the request's header has a line that is folded, ends without CR, has no "
                          "name or contains a NUL, or more than one space in its first line",
                          true},
    [DISCIPLINE_NAME] = {400,
                         "a header's name is empty or has characters that no name may have, or its "
                         "value goes on in a second line",
                         true},
    [DISCIPLINE_NAME_SPACE] = {400, "a header has white space before its colon", true},
    [DISCIPLINE_NAME_FOLDED] = {400, "a header's value goes on in a second line", true},
    [DISCIPLINE_VALUE] = {400, "a header's value has a control character", true},
    [DISCIPLINE_TARGET_BYTES] = {400,
                                 "the URL has a space or a control character; encode it as %20",
                                 true},
    [DISCIPLINE_TARGET_FRAGMENT] = {400, "the URL has a #; encode it as %23, or leave it out",
                                    true},
    [DISCIPLINE_TARGET_FORM] = {400, "the URL does not begin with a slash, http:// or https://",
                                true},
    [DISCIPLINE_TARGET_HOST] = {400, "the URL's host is not of the form host or host:port", true},
    [DISCIPLINE_PATH_BYTES] = {400, "the URL's path has bytes beyond ASCII that are not encoded",
                               true},
    [DISCIPLINE_PATH_ESCAPE] = {400, "the URL's path has a % without two hexadecimal digits", true},
    [DISCIPLINE_PATH_CONTROL] = {400, "the URL's path has an encoded control character", true},
    [DISCIPLINE_LENGTH_TWICE] = {400, "Content-Length: stands twice, expected once", true},
    [DISCIPLINE_CHUNKED_TWICE] = {400, "Transfer-Encoding: stands twice, expected once", true},
    [DISCIPLINE_CHUNKED_AND_LENGTH] = {400,
                                       "Content-Length: stands beside Transfer-Encoding, expected "
                                       "one of them",
                                       true},
    [DISCIPLINE_CHUNKED_OLD] = {400, "Transfer-Encoding: does not exist in HTTP/1.0", true},
    [DISCIPLINE_CHUNKED_EMPTY] = {400, "Transfer-Encoding: is empty, expected chunked", true},
    [DISCIPLINE_CHUNKED_NOT] = {501, "Transfer-Encoding: this relay takes chunked and nothing else",
                                true},
    [DISCIPLINE_CHUNKED_SPACE] = {400, "Transfer-Encoding: has white space behind its value", true},
    [DISCIPLINE_LENGTH_FORM] = {400, "Content-Length: expected one number in decimal digits", true},
    [DISCIPLINE_LENGTH_LARGE] = {413, "Content-Length: the body is larger than this relay takes",
                                 true},
    [DISCIPLINE_HOST_TWICE] = {400, "Host: stands twice, expected once", true},
    [DISCIPLINE_HOST_NONE] = {400, "Host: missing; HTTP/1.1 requires it", true},
    [DISCIPLINE_HOST_FORM] = {400, "Host: expected a host, or host:port", true},
    [DISCIPLINE_AUTHORIZATION_TWICE] = {400, "Authorization: stands twice, expected once", true},
    [DISCIPLINE_ORIGIN_TWICE] = {400, "Origin: stands twice, expected once", true},
    [DISCIPLINE_LAST_EVENT_ID_TWICE] = {400, "Last-Event-ID: stands twice, expected once", true},
    [DISCIPLINE_SSE_SLOW_TWICE] = {400, "X-SSE-Slow: stands twice, expected once", true},
    [DISCIPLINE_SSE_BUFFER_TWICE] = {400, "X-SSE-Buffer: stands twice, expected once", true},
    [DISCIPLINE_CONTENT_TYPE_TWICE] = {400, "Content-Type: stands twice, expected once", true},
    [DISCIPLINE_CONTENT_ENCODING_TWICE] = {400, "Content-Encoding: stands twice, expected once",
                                           true},
    [DISCIPLINE_CONTENT_ENCODING_LIST] = {415, "Content-Encoding: expected one coding, not a list",
                                          true},
    [DISCIPLINE_CONTENT_ENCODING_OTHER] = {415, "Content-Encoding: expected gzip or deflate", true},
    [DISCIPLINE_EXPECT] = {417, "Expect: this relay knows 100-continue and nothing else", true},
};

const struct discipline_refusal *discipline_refusal(enum discipline_fault fault)
{
    return &refusals[fault];
}

/* --- the fields that may stand once ------------------------------------------------------------
 */

enum known {
    K_HOST,
    K_CONTENT_LENGTH,
    K_TRANSFER_ENCODING,
    K_AUTHORIZATION,
    K_ORIGIN,
    K_LAST_EVENT_ID,
    K_SSE_SLOW,
    K_SSE_BUFFER,
    K_CONTENT_TYPE,
    K_CONTENT_ENCODING,
    K_EXPECT,
    K_COUNT
};

#define KNOWN(text) {text, sizeof(text) - 1}
static const struct {
    struct slice name;
    enum discipline_fault twice;
} known[K_COUNT] = {
    [K_HOST] = {KNOWN("Host"), DISCIPLINE_HOST_TWICE},
    [K_CONTENT_LENGTH] = {KNOWN("Content-Length"), DISCIPLINE_LENGTH_TWICE},
    [K_TRANSFER_ENCODING] = {KNOWN("Transfer-Encoding"), DISCIPLINE_CHUNKED_TWICE},
    [K_AUTHORIZATION] = {KNOWN("Authorization"), DISCIPLINE_AUTHORIZATION_TWICE},
    [K_ORIGIN] = {KNOWN("Origin"), DISCIPLINE_ORIGIN_TWICE},
    [K_LAST_EVENT_ID] = {KNOWN("Last-Event-ID"), DISCIPLINE_LAST_EVENT_ID_TWICE},
    [K_SSE_SLOW] = {KNOWN("X-SSE-Slow"), DISCIPLINE_SSE_SLOW_TWICE},
    [K_SSE_BUFFER] = {KNOWN("X-SSE-Buffer"), DISCIPLINE_SSE_BUFFER_TWICE},
    [K_CONTENT_TYPE] = {KNOWN("Content-Type"), DISCIPLINE_CONTENT_TYPE_TWICE},
    [K_CONTENT_ENCODING] = {KNOWN("Content-Encoding"), DISCIPLINE_CONTENT_ENCODING_TWICE},
    [K_EXPECT] = {KNOWN("Expect"), DISCIPLINE_EXPECT},
};

/* Values as they came; SLICE_NONE: absent. */
static enum discipline_fault find_known(const struct discipline_message *m,
                                        struct slice values[static K_COUNT])
{
    for (size_t i = 0; i < K_COUNT; i++)
        values[i] = SLICE_NONE;
    for (size_t f = 0; f < m->field_count; f++) {
        for (size_t i = 0; i < K_COUNT; i++) {
            /* Lengths first: nearly all that is compared differs in them. */
            if (m->fields[f].name.len != known[i].name.len ||
                !slice_eq_nocase(m->fields[f].name, known[i].name.ptr))
                continue;
            if (values[i].ptr)
                return known[i].twice;
            values[i] = m->fields[f].value;
            if (!values[i].ptr)
                values[i] = SLICE_LIT("");
        }
    }
    return DISCIPLINE_FINE;
}

/* --- where the body ends -----------------------------------------------------------------------
 */

/* libmicrohttpd from 1.0 on takes white space off. 0.9.75 does not, and has then not seen that the
 * body is chunked: it would wait for the end of the connection. */
static enum discipline_fault judge_chunked(const struct discipline_message *m, struct slice came)
{
    struct slice value = slice_trim(came);
    if (slice_is(m->version, "HTTP/1.0"))
        return DISCIPLINE_CHUNKED_OLD;
    if (!value.len)
        return DISCIPLINE_CHUNKED_EMPTY;
    if (!slice_eq_nocase(value, "chunked"))
        return DISCIPLINE_CHUNKED_NOT;
    return value.len == came.len ? DISCIPLINE_FINE : DISCIPLINE_CHUNKED_SPACE;
}

/* Leading zeros are legal, but some parsers read such a number as octal. */
static enum discipline_fault judge_length(struct slice came, uint64_t max, uint64_t *out)
{
    switch (slice_u64(slice_trim(came), max, out)) {
    case OK:
        return DISCIPLINE_FINE;
    case ERR_RANGE:
        return DISCIPLINE_LENGTH_LARGE;
    default:
        return DISCIPLINE_LENGTH_FORM;
    }
}

static enum discipline_fault judge_body(const struct discipline_message *m,
                                        const struct discipline_limits *limits,
                                        const struct slice *values, struct discipline_facts *out)
{
    struct slice length = values[K_CONTENT_LENGTH], chunked = values[K_TRANSFER_ENCODING];
    if (length.ptr && chunked.ptr)
        return DISCIPLINE_CHUNKED_AND_LENGTH;
    out->body = DISCIPLINE_NO_BODY;
    if (chunked.ptr) {
        out->body = DISCIPLINE_CHUNKED;
        return judge_chunked(m, chunked);
    }
    if (length.ptr) {
        out->body = DISCIPLINE_LENGTH;
        return judge_length(length, limits->max_body_bytes, &out->content_length);
    }
    return DISCIPLINE_FINE;
}

/* --- the others --------------------------------------------------------------------------------
 */

/* The target's host wins, but Host must be there and right all the same (RFC 9112, 3.2). */
static enum discipline_fault judge_host(const struct discipline_message *m, struct slice came,
                                        struct discipline_facts *out)
{
    struct slice value = slice_trim(came);
    if (!came.ptr)
        return slice_is(m->version, "HTTP/1.0") ? DISCIPLINE_FINE : DISCIPLINE_HOST_NONE;
    if (value.len && !origin_host_valid(value)) /* empty: "none", which some health checks send */
        return DISCIPLINE_HOST_FORM;
    if (!out->host.ptr)
        out->host = value;
    return DISCIPLINE_FINE;
}

static enum discipline_fault judge_coding(struct slice came, struct discipline_facts *out)
{
    struct slice coding = slice_trim(came), rest = coding;
    out->coding = DISCIPLINE_PLAIN;
    if (out->body == DISCIPLINE_NO_BODY || !coding.len || slice_eq_nocase(coding, "identity"))
        return DISCIPLINE_FINE;
    slice_cut(&rest, ',');
    if (rest.ptr)
        return DISCIPLINE_CONTENT_ENCODING_LIST;
    if (slice_eq_nocase(coding, "gzip") || slice_eq_nocase(coding, "x-gzip"))
        out->coding = DISCIPLINE_GZIP;
    else if (slice_eq_nocase(coding, "deflate"))
        out->coding = DISCIPLINE_DEFLATE;
    else
        return DISCIPLINE_CONTENT_ENCODING_OTHER;
    return DISCIPLINE_FINE;
}

/* HTTP/1.0 has no such thing (RFC 9110, 10.1.1). */
static enum discipline_fault judge_expect(const struct discipline_message *m, struct slice came,
                                          struct discipline_facts *out)
{
    out->expects_continue = came.ptr && !slice_is(m->version, "HTTP/1.0");
    if (!out->expects_continue || slice_eq_nocase(slice_trim(came), "100-continue"))
        return DISCIPLINE_FINE;
    return DISCIPLINE_EXPECT;
}

enum discipline_fault discipline_judge(const struct discipline_message *m,
                                       const struct discipline_limits *limits,
                                       struct discipline_facts *out)
{
    struct discipline_facts facts = {0};
    struct slice values[K_COUNT];
    enum discipline_fault fault;
    if ((fault = discipline_judge_lines(m, limits)) || (fault = find_known(m, values)) ||
        (fault = judge_body(m, limits, values, &facts)) ||
        (fault = discipline_judge_target(m, &facts)) ||
        (fault = judge_host(m, values[K_HOST], &facts)) ||
        (fault = judge_coding(values[K_CONTENT_ENCODING], &facts)) ||
        (fault = judge_expect(m, values[K_EXPECT], &facts)))
        return fault;
    facts.authorization = slice_trim(values[K_AUTHORIZATION]);
    facts.origin = slice_trim(values[K_ORIGIN]);
    facts.last_event_id = slice_trim(values[K_LAST_EVENT_ID]);
    facts.slow = slice_trim(values[K_SSE_SLOW]);
    facts.buffer = slice_trim(values[K_SSE_BUFFER]);
    facts.content_type = slice_trim(values[K_CONTENT_TYPE]);
    *out = facts;
    return DISCIPLINE_FINE;
}
