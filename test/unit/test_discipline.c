/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP messages, judged: each rule by what breaks it, alone. Every case is judged twice: without
 * the header's bytes, and with them, as libmicrohttpd 0.9.75 leaves them. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/http/discipline.h"
#include "test/unit/tests_run.h"

enum { FIELDS_MAX = 32 };
#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

static const struct discipline_limits limits = {.max_fields = 12, .max_body_bytes = 1000};

/* --- messages as libmicrohttpd hands them out --------------------------------------------------
 */

struct rig {
    struct buf block;
    char *target;
    struct discipline_field fields[FIELDS_MAX];
    struct discipline_message message;
};

/* The next @len bytes, with NULs in place of the @skip bytes behind them. */
static struct slice rig_take(struct rig *rig, size_t *at, size_t len, size_t skip)
{
    struct slice s = {rig->block.ptr + *at, len};
    memset(rig->block.ptr + *at + len, '\0', skip);
    *at += len + skip;
    return s;
}

static size_t rig_find(const struct rig *rig, size_t at, const char *what)
{
    char *found = memmem(rig->block.ptr + at, rig->block.len - at, what, strlen(what));
    ck_assert_ptr_nonnull(found);
    return (size_t)(found - rig->block.ptr) - at;
}

/* @text: "GET /a HTTP/1.1\nHost: a\n", each \n as CRLF, without the blank line. */
static void rig_start(struct rig *rig, struct slice text)
{
    *rig = (struct rig){0};
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\n')
            buf_putc(&rig->block, '\r');
        buf_putc(&rig->block, text.ptr[i]);
    }
    buf_put(&rig->block, "\r\n", 3); /* with a NUL, which is no part of it */
    rig->block.len--;
    struct discipline_message *m = &rig->message;
    size_t at = 0, end = rig->block.len - 2;
    m->block = buf_slice(&rig->block);
    m->method = rig_take(rig, &at, rig_find(rig, at, " "), 1);
    size_t line = rig_find(rig, at, "\r\n"), target = line;
    while (target > 0 && rig->block.ptr[at + target - 1] != ' ')
        target--;
    ck_assert_uint_gt(target, 0);
    rig->target = mem_dup(rig->block.ptr + at, target - 1);
    m->target = (struct slice){rig->target, target - 1};
    at += target;
    rig->block.ptr[at - 1] = '\0';
    m->version = rig_take(rig, &at, line - target, 2);
    m->fields = rig->fields;
    while (at < end) {
        ck_assert_uint_lt(m->field_count, FIELDS_MAX);
        struct discipline_field *field = &rig->fields[m->field_count++];
        field->name = rig_take(rig, &at, rig_find(rig, at, ":"), 1);
        at += strspn(rig->block.ptr + at, " \t");
        field->value = rig_take(rig, &at, rig_find(rig, at, "\r\n"), 2);
    }
    memset(rig->block.ptr + end, '\0', 2);
}

static void rig_stop(struct rig *rig)
{
    buf_reset(&rig->block);
    free(rig->target);
}

/* Judges it both ways. */
static enum discipline_fault judge(struct slice text, struct rig *rig, struct discipline_facts *out)
{
    rig_start(rig, text);
    struct discipline_message blind = rig->message;
    blind.block = SLICE_NONE;
    enum discipline_fault fault = discipline_judge(&blind, &limits, out);
    ck_assert_int_eq(discipline_judge(&rig->message, &limits, out), fault);
    return fault;
}

/* --- what is refused ---------------------------------------------------------------------------
 */

#define A "GET /a HTTP/1.1\nHost: a\n"
#define P "POST /a HTTP/1.1\nHost: a\n"
#define R(text, fault) {{text, sizeof(text) - 1}, DISCIPLINE_##fault}

static const struct refused {
    struct slice text;
    enum discipline_fault fault;
} refused[] = {
    /* the request line */
    R("G@T /a HTTP/1.1\nHost: a\n", METHOD),
    R("G\tT /a HTTP/1.1\nHost: a\n", METHOD),
    R("G\0T /a HTTP/1.1\nHost: a\n", METHOD),
    R("GET: /a HTTP/1.1\nHost: a\n", METHOD),
    R(" /a HTTP/1.1\nHost: a\n", METHOD),
    R("GET /a HTTP/1.10\nHost: a\n", VERSION_FORM),
    R("GET /a http/1.1\nHost: a\n", VERSION_FORM),
    R("GET /a HTTP/11\nHost: a\n", VERSION_FORM),
    R("GET /a HTTP/1,1\nHost: a\n", VERSION_FORM),
    R("GET /a HTTP/x.1\nHost: a\n", VERSION_FORM),
    R("GET /a HTTP/1.x\nHost: a\n", VERSION_FORM),
    R("GET /a \nHost: a\n", VERSION_FORM),
    R("GET /a ICAP/1.0\nHost: a\n", VERSION_FORM),
    R("GET /a HTTP/3.0\nHost: a\n", VERSION),
    R("GET /a HTTP/2.0\nHost: a\n", VERSION),
    R("GET /a HTTP/1.2\nHost: a\n", VERSION),
    R("GET /a HTTP/0.9\nHost: a\n", VERSION),
    R("GET /a HTTP/2.1\nHost: a\n", VERSION),
    /* the target */
    R("GET /a b HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET  /a HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET /a  HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET /a?b\tc HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET /a\0b HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET /a?\0 HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET /a\rb HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET /a\x7f HTTP/1.1\nHost: a\n", TARGET_BYTES),
    R("GET /a#b HTTP/1.1\nHost: a\n", TARGET_FRAGMENT),
    R("GET /a?b#c HTTP/1.1\nHost: a\n", TARGET_FRAGMENT),
    R("GET http://a/#c HTTP/1.1\nHost: a\n", TARGET_FRAGMENT),
    R("GET  HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET a HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET ?a HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET %2Fa HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET \\a HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET * HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("OPTIONS *a HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("OPTIONS *?a HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("CONNECT a:80 HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET ftp://a/ HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET a/http://a/ HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET http:/a HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET a?http://a/ HTTP/1.1\nHost: a\n", TARGET_FORM),
    R("GET http:// HTTP/1.1\nHost: a\n", TARGET_HOST),
    R("GET http:///a HTTP/1.1\nHost: a\n", TARGET_HOST),
    R("GET http://u@a/ HTTP/1.1\nHost: a\n", TARGET_HOST),
    R("GET http://a:b/ HTTP/1.1\nHost: a\n", TARGET_HOST),
    R("GET http://a,b/ HTTP/1.1\nHost: a\n", TARGET_HOST),
    R("GET http://[::1/ HTTP/1.1\nHost: a\n", TARGET_HOST),
    R("GET /\xC3\xA9 HTTP/1.1\nHost: a\n", PATH_BYTES),
    R("GET http://a/\x80 HTTP/1.1\nHost: a\n", PATH_BYTES),
    R("GET /%zz HTTP/1.1\nHost: a\n", PATH_ESCAPE),
    R("GET /%4 HTTP/1.1\nHost: a\n", PATH_ESCAPE),
    R("GET /% HTTP/1.1\nHost: a\n", PATH_ESCAPE),
    R("GET /%4g HTTP/1.1\nHost: a\n", PATH_ESCAPE),
    R("GET /%g4 HTTP/1.1\nHost: a\n", PATH_ESCAPE),
    R("GET /%4?1 HTTP/1.1\nHost: a\n", PATH_ESCAPE),
    R("POST /publish%00x?topic=a HTTP/1.1\nHost: a\n", PATH_CONTROL),
    R("GET /%0a HTTP/1.1\nHost: a\n", PATH_CONTROL),
    R("GET /%1F HTTP/1.1\nHost: a\n", PATH_CONTROL),
    R("GET /%7f HTTP/1.1\nHost: a\n", PATH_CONTROL),
    R("GET http://a/%00 HTTP/1.1\nHost: a\n", PATH_CONTROL),
    /* names and values */
    R(A "A:1\nB:1\nC:1\nD:1\nE:1\nF:1\nG:1\nH:1\nI:1\nJ:1\nK:1\nL:1\n", FIELDS),
    R(A ": b\n", NAME),
    R(A "X(y: b\n", NAME),
    R(A "X y: b\n", NAME),
    R(A " X: b\n", NAME),
    R(A "X\"y: b\n", NAME),
    R(A "X\0y: b\n", NAME),
    R(A "X\xC3\xA9: b\n", NAME),
    R(A "X\x7f: b\n", NAME),
    R(P "Content-Length : 2\n", NAME_SPACE),
    R(A "X\t: 2\n", NAME_SPACE),
    R(A "Last-Event-ID123:\n", NAME_FOLDED),
    R(A "authorizationtwo: one\n", NAME_FOLDED),
    R(P "Content-Length0: 2\n", NAME_FOLDED),
    R(P "Content-Length-5:\n", NAME_FOLDED),
    R(P "Content-Length-0:\n", NAME_FOLDED),
    R(P "Content-Length-9: 5\n", NAME_FOLDED),
    R(P "Content-Length-: 5\n", NAME_FOLDED),
    R(P "Transfer-Encodingchunked:\n", NAME_FOLDED),
    R(P "Content-Typetext: a\n", NAME_FOLDED),
    R(P "Content-Encodinggzip:\n", NAME_FOLDED),
    R(A "X: a\rb\n", VALUE),
    R(A "X: a\0b\n", VALUE),
    R(A "X: \x01\n", VALUE),
    R(A "X: a\x7f\n", VALUE),
    R(A "X: \x1f\n", VALUE),
    R(A "X: \x0b\n", VALUE),
    R("GET /a HTTP/1.1\nHost: a\rX: b\n", VALUE),
    /* where the body ends */
    R(P "Content-Length: 2\nContent-Length: 60\n", LENGTH_TWICE),
    R(P "Content-Length: 2\ncontent-length: 2\n", LENGTH_TWICE),
    R(P "Content-Length: 2\nX: y\nContent-Length:\n", LENGTH_TWICE),
    R(P "Content-Length:\nContent-Length: 2\n", LENGTH_TWICE),
    R(P "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", CHUNKED_TWICE),
    R(P "Transfer-Encoding: chunked\ntransfer-encoding: identity\n", CHUNKED_TWICE),
    R(P "Content-Length: 2\nTransfer-Encoding: chunked\n", CHUNKED_AND_LENGTH),
    R(P "Transfer-Encoding:\nContent-Length:\n", CHUNKED_AND_LENGTH),
    R(P "Transfer-Encoding: identity\nContent-Length: 2\n", CHUNKED_AND_LENGTH),
    R("POST /a HTTP/1.0\nTransfer-Encoding: chunked\n", CHUNKED_OLD),
    R(P "Transfer-Encoding:\n", CHUNKED_EMPTY),
    R(P "Transfer-Encoding: \t \n", CHUNKED_EMPTY),
    R(P "Transfer-Encoding: gzip, chunked\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: chunked, chunked\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: chunked, gzip\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: identity\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: xchunked\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: chunked;a=b\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: ,chunked\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: \"chunked\"\n", CHUNKED_NOT),
    R(P "Transfer-Encoding: chunked \n", CHUNKED_SPACE),
    R(P "Transfer-Encoding: chunked\t\n", CHUNKED_SPACE),
    R(P "Content-Length:\n", LENGTH_FORM),
    R(P "Content-Length: +2\n", LENGTH_FORM),
    R(P "Content-Length: -2\n", LENGTH_FORM),
    R(P "Content-Length: -0\n", LENGTH_FORM),
    R(P "Content-Length: 2,2\n", LENGTH_FORM),
    R(P "Content-Length: 2, 2\n", LENGTH_FORM),
    R(P "Content-Length: 2 2\n", LENGTH_FORM),
    R(P "Content-Length: 0x2\n", LENGTH_FORM),
    R(P "Content-Length: 2.0\n", LENGTH_FORM),
    R(P "Content-Length: 2e1\n", LENGTH_FORM),
    R(P "Content-Length: 010\n", LENGTH_FORM),
    R(P "Content-Length: 1001\n", LENGTH_LARGE),
    R(P "Content-Length: 18446744073709551618\n", LENGTH_LARGE),
    R(A "Content-Length: 99999999999999999999999999\n", LENGTH_LARGE),
    /* hosts */
    R("GET /a HTTP/1.1\nHost: a\nHost: b\n", HOST_TWICE),
    R("GET /a HTTP/1.1\nHost: a\nhost: a\n", HOST_TWICE),
    R("GET /a HTTP/1.1\nHost:\nHost: a\n", HOST_TWICE),
    R("GET /a HTTP/1.0\nHost: a\nHost: a\n", HOST_TWICE),
    R("GET /a HTTP/1.1\n", HOST_NONE),
    R("GET http://a/ HTTP/1.1\n", HOST_NONE),
    R("GET /a HTTP/1.1\nHost: a b\n", HOST_FORM),
    R("GET /a HTTP/1.1\nHost: a, b\n", HOST_FORM),
    R("GET /a HTTP/1.1\nHost: u@a\n", HOST_FORM),
    R("GET /a HTTP/1.1\nHost: a:b\n", HOST_FORM),
    R("GET /a HTTP/1.1\nHost: http://a\n", HOST_FORM),
    R("GET /a HTTP/1.1\nHost: a/b\n", HOST_FORM),
    R("GET /a HTTP/1.0\nHost: a/b\n", HOST_FORM),
    R("GET http://a/ HTTP/1.1\nHost: a b\n", HOST_FORM),
    /* other fields that may stand once */
    R(A "Authorization: Bearer a\nauthorization: Bearer b\n", AUTHORIZATION_TWICE),
    R(A "Origin: http://a\nOrigin: http://a\n", ORIGIN_TWICE),
    R(A "Last-Event-ID: 1\nlast-event-id: 2\n", LAST_EVENT_ID_TWICE),
    R(A "X-SSE-Slow: block\nx-sse-slow: block\n", SSE_SLOW_TWICE),
    R(A "X-SSE-Buffer: 1\nx-sse-buffer: 2\n", SSE_BUFFER_TWICE),
    R(P "Content-Type: text/plain\nContent-Type: application/json\n", CONTENT_TYPE_TWICE),
    R(P "Content-Encoding: gzip\nContent-Encoding: gzip\n", CONTENT_ENCODING_TWICE),
    /* codings of the body */
    R(P "Content-Length: 9\nContent-Encoding: gzip, gzip\n", CONTENT_ENCODING_LIST),
    R(P "Content-Length: 9\nContent-Encoding: identity,gzip\n", CONTENT_ENCODING_LIST),
    R(P "Content-Length: 9\nContent-Encoding: gzip,\n", CONTENT_ENCODING_LIST),
    R(P "Content-Length: 9\nContent-Encoding: br\n", CONTENT_ENCODING_OTHER),
    R(P "Transfer-Encoding: chunked\nContent-Encoding: zstd\n", CONTENT_ENCODING_OTHER),
    R(P "Content-Length: 9\nContent-Encoding: gzip;q=1\n", CONTENT_ENCODING_OTHER),
    R(P "Content-Length: 9\nContent-Encoding: gz\n", CONTENT_ENCODING_OTHER),
    R(P "Content-Length: 9\nExpect: pigs\n", EXPECT),
    R(P "Content-Length: 9\nExpect:\n", EXPECT),
    R(P "Content-Length: 9\nExpect: 100-continue, pigs\n", EXPECT),
    R(P "Content-Length: 9\nExpect: 100-continue\nExpect: 100-continue\n", EXPECT),
};

START_TEST(test_message_is_refused)
{
    struct rig rig;
    struct discipline_facts facts = {.content_length = 77};
    enum discipline_fault fault = judge(refused[_i].text, &rig, &facts);
    ck_assert_msg(fault == refused[_i].fault, "case %d, %s: fault %d, expected %d", _i,
                  refused[_i].text.ptr, (int)fault, (int)refused[_i].fault);
    ck_assert_uint_eq(facts.content_length, 77); /* written only on success */
    rig_stop(&rig);
}
END_TEST

/* That of lines is below. */
START_TEST(test_each_fault_has_its_case)
{
    enum discipline_fault fault = (enum discipline_fault)_i;
    bool found = fault == DISCIPLINE_LINES;
    for (int i = 0; i < COUNT(refused); i++)
        found |= refused[i].fault == fault;
    ck_assert_msg(found, "fault %d", _i);
}
END_TEST

START_TEST(test_each_refusal_says_what_is_wrong)
{
    const struct discipline_refusal *refusal = discipline_refusal((enum discipline_fault)_i);
    unsigned status = refusal->status;
    ck_assert(status == 400 || status == 413 || status == 415 || status == 417 || status == 431 ||
              status == 501 || status == 505);
    ck_assert_uint_gt(strlen(refusal->detail), 20);
    ck_assert(refusal->close); /* so that nothing behind it is ever taken for a request */
    for (int i = _i + 1; i < DISCIPLINE_FAULTS; i++)
        ck_assert_str_ne(refusal->detail, discipline_refusal((enum discipline_fault)i)->detail);
}
END_TEST

START_TEST(test_statuses)
{
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_LENGTH_TWICE)->status, 400);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_CHUNKED_AND_LENGTH)->status, 400);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_CHUNKED_NOT)->status, 501);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_VERSION)->status, 505);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_FIELDS)->status, 431);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_LENGTH_LARGE)->status, 413);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_CONTENT_ENCODING_LIST)->status, 415);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_CONTENT_ENCODING_OTHER)->status, 415);
    ck_assert_uint_eq(discipline_refusal(DISCIPLINE_EXPECT)->status, 417);
}
END_TEST

/* --- what is accepted --------------------------------------------------------------------------
 */

/* Absent is NULL. */
static const struct accepted {
    const char *text, *path, *query, *host;
} accepted[] = {
    {A, "/a", NULL, "a"},
    {"GET /a?b=c&d HTTP/1.1\nHost: a\n", "/a", "b=c&d", "a"},
    {"GET /? HTTP/1.1\nHost: a\n", "/", "", "a"},
    {"GET /a?b?c HTTP/1.1\nHost: a\n", "/a", "b?c", "a"},
    {"GET /a?topic=orders.>&t=\xC3\xA9%00%zz HTTP/1.1\nHost: a\n", "/a",
     "topic=orders.>&t=\xC3\xA9%00%zz", "a"},
    {"GET /a?b=http://c/d HTTP/1.1\nHost: a\n", "/a", "b=http://c/d", "a"},
    {"GET /http://b/ HTTP/1.1\nHost: a\n", "/http://b/", NULL, "a"},
    {"GET //b/c HTTP/1.1\nHost: a\n", "//b/c", NULL, "a"},
    {"GET /a/../b HTTP/1.1\nHost: a\n", "/a/../b", NULL, "a"},
    {"GET /%70ublish HTTP/1.1\nHost: a\n", "/%70ublish", NULL, "a"},
    {"GET /a%2Fb%20%7E HTTP/1.1\nHost: a\n", "/a%2Fb%20%7E", NULL, "a"},
    {"OPTIONS * HTTP/1.1\nHost: a\n", "*", NULL, "a"},
    {"OPTIONS /a HTTP/1.1\nHost: a\n", "/a", NULL, "a"},
    {"DELETE /a HTTP/1.1\nHost: a\n", "/a", NULL, "a"},
    {"GET http://relay.example/events?topic=a HTTP/1.1\nHost: relay.example\n", "/events",
     "topic=a", "relay.example"},
    {"GET HTTPS://b:8080/c HTTP/1.1\nHost: a\n", "/c", NULL, "b:8080"},
    {"GET http://[::1]:80/c HTTP/1.1\nHost: a\n", "/c", NULL, "[::1]:80"},
    {"GET http://b HTTP/1.1\nHost: a\n", "/", NULL, "b"},
    {"GET http://b?c=/d HTTP/1.1\nHost: a\n", "/", "c=/d", "b"},
    {"GET http://b/c HTTP/1.0\n", "/c", NULL, "b"},
    {"OPTIONS http://b HTTP/1.1\nHost: a\n", "*", NULL, "b"},
    {"OPTIONS http://b? HTTP/1.1\nHost: a\n", "/", "", "b"},
    {"OPTIONS http://b/ HTTP/1.1\nHost: a\n", "/", NULL, "b"},
    {"GET /a HTTP/1.0\n", "/a", NULL, NULL},
    {"GET /a HTTP/1.0\nHost: a\n", "/a", NULL, "a"},
    {"GET /a HTTP/1.1\nHost:\n", "/a", NULL, ""},
    {"GET /a HTTP/1.1\nhOST:\t a:80 \t\n", "/a", NULL, "a:80"},
    {"GET /a HTTP/1.0\nExpect: pigs\n", "/a", NULL, NULL},
    {A "Content-Encoding: br\n", "/a", NULL, "a"}, /* there is no body */
    {A "A:1\nB:1\nC:1\nD:1\nE:1\nF:1\nG:1\nH:1\nI:1\nJ:1\nK:1\n", "/a", NULL, "a"},
    {A "X: tab\there, \x80\xFF, \"quoted\", ~\nE:\nE: \nX: again\n", "/a", NULL, "a"},
    {A "!#$%&'*+-.^_`|~09azAZ: x\n", "/a", NULL, "a"},
    {A "Content-Type-Options: x\nAuthorization-Info: y\nOriginal: z\nHosts: u\n", "/a", NULL, "a"},
    {A "Content-Len: 60\nContent: 1\n", "/a", NULL, "a"},
};

static void expect_slice(struct slice got, const char *want, int at)
{
    ck_assert_msg(!got.ptr == !want && slice_eq(got, slice_of(want)), "case %d: \"%.*s\" not %s",
                  at, (int)got.len, got.ptr, want);
}

START_TEST(test_message_is_accepted)
{
    const struct accepted *c = &accepted[_i];
    struct rig rig;
    struct discipline_facts facts;
    enum discipline_fault fault = judge(slice_of(c->text), &rig, &facts);
    ck_assert_msg(fault == DISCIPLINE_FINE, "case %d: fault %d", _i, (int)fault);
    expect_slice(facts.path, c->path, _i);
    expect_slice(facts.query, c->query, _i);
    expect_slice(facts.host, c->host, _i);
    rig_stop(&rig);
}
END_TEST

START_TEST(test_fields_are_found_and_trimmed)
{
    struct rig rig;
    struct discipline_facts facts;
    ck_assert_int_eq(judge(SLICE_LIT(P "authorization:  Bearer a b \n"
                                       "Origin:\thttp://a\n"
                                       "LAST-EVENT-ID: 12\t\n"
                                       "Content-Type: text/plain ; a=b\n"
                                       "Content-Length: 0\nExpect: 100-Continue \n"),
                           &rig, &facts),
                     DISCIPLINE_FINE);
    ck_assert(slice_is(facts.authorization, "Bearer a b"));
    ck_assert(slice_is(facts.origin, "http://a"));
    ck_assert(slice_is(facts.last_event_id, "12"));
    ck_assert(slice_is(facts.content_type, "text/plain ; a=b"));
    ck_assert(facts.expects_continue);
    rig_stop(&rig);
    ck_assert_int_eq(judge(SLICE_LIT(A "Last-Event-ID:\n"), &rig, &facts), DISCIPLINE_FINE);
    ck_assert(facts.last_event_id.ptr && !facts.last_event_id.len);
    ck_assert(!facts.authorization.ptr && !facts.origin.ptr && !facts.content_type.ptr);
    ck_assert(!facts.expects_continue);
    rig_stop(&rig);
}
END_TEST

static const struct {
    const char *fields;
    enum discipline_body body;
    uint64_t length;
    enum discipline_coding coding;
} bodies[] = {
    {"", DISCIPLINE_NO_BODY, 0, DISCIPLINE_PLAIN},
    {"Content-Length: 0\n", DISCIPLINE_LENGTH, 0, DISCIPLINE_PLAIN},
    {"Content-Length: 2\n", DISCIPLINE_LENGTH, 2, DISCIPLINE_PLAIN},
    {"Content-Length:\t 2\t \n", DISCIPLINE_LENGTH, 2, DISCIPLINE_PLAIN},
    {"Content-Length: 1000\n", DISCIPLINE_LENGTH, 1000, DISCIPLINE_PLAIN},
    {"Transfer-Encoding: chunked\n", DISCIPLINE_CHUNKED, 0, DISCIPLINE_PLAIN},
    {"transfer-encoding:CHUNKED\n", DISCIPLINE_CHUNKED, 0, DISCIPLINE_PLAIN},
    {"Content-Length: 2\nContent-Encoding: gzip\n", DISCIPLINE_LENGTH, 2, DISCIPLINE_GZIP},
    {"Content-Length: 2\nContent-Encoding: X-GZip \n", DISCIPLINE_LENGTH, 2, DISCIPLINE_GZIP},
    {"Content-Length: 2\nContent-Encoding: Deflate\n", DISCIPLINE_LENGTH, 2, DISCIPLINE_DEFLATE},
    {"Content-Length: 2\nContent-Encoding: identity\n", DISCIPLINE_LENGTH, 2, DISCIPLINE_PLAIN},
    {"Content-Length: 2\nContent-Encoding:\n", DISCIPLINE_LENGTH, 2, DISCIPLINE_PLAIN},
    {"Transfer-Encoding: chunked\nContent-Encoding: gzip\n", DISCIPLINE_CHUNKED, 0,
     DISCIPLINE_GZIP},
    {"Content-Encoding: gzip\n", DISCIPLINE_NO_BODY, 0, DISCIPLINE_PLAIN},
};

START_TEST(test_body_ends_where_the_fields_say)
{
    struct rig rig;
    struct discipline_facts facts;
    struct buf text = {0};
    buf_puts(&text, P);
    buf_puts(&text, bodies[_i].fields);
    ck_assert_int_eq(judge(buf_slice(&text), &rig, &facts), DISCIPLINE_FINE);
    ck_assert_int_eq(facts.body, bodies[_i].body);
    ck_assert_int_eq(facts.coding, bodies[_i].coding);
    ck_assert_uint_eq(facts.content_length, bodies[_i].length);
    rig_stop(&rig);
    buf_reset(&text);
}
END_TEST

/* --- paths as routes compare them --------------------------------------------------------------
 */

static const struct {
    const char *path, *normal;
} paths[] = {
    {"/", "/"},
    {"*", "*"},
    {"/publish", "/publish"},
    {"/%70ublish", "/publish"},
    {"/%70%75%62%6c%69%73%68", "/publish"},
    {"/%41%5A%61%7a%30%39%2d%2E%5f%7E", "/AZaz09-._~"},
    {"/a%2Fb", "/a%2Fb"},
    {"/a%2fb", "/a%2Fb"},
    {"/a%5c%3f%23%25", "/a%5C%3F%23%25"},
    {"/%252Fa", "/%252Fa"}, /* once only */
    {"/%25%37%30", "/%2570"},
    {"/%C3%a9", "/%C3%A9"},
    {"/a/%2e%2e/b", "/a/../b"},
    {"/a+b;c", "/a+b;c"},
};

START_TEST(test_paths_have_one_form)
{
    struct buf b = {0};
    buf_puts(&b, ">");
    discipline_put_path(&b, slice_of(paths[_i].path));
    ck_assert_msg(slice_eq((struct slice){b.ptr + 1, b.len - 1}, slice_of(paths[_i].normal)),
                  "%s: %.*s", paths[_i].path, (int)b.len, b.ptr);
    buf_reset(&b);
}
END_TEST

/* --- what stands between the pieces ------------------------------------------------------------
 */

static enum discipline_fault judge_rig(const struct rig *rig)
{
    struct discipline_facts facts;
    return discipline_judge(&rig->message, &limits, &facts);
}

static void rig_start_three(struct rig *rig)
{
    rig_start(rig, SLICE_LIT("POST /abc?d HTTP/1.1\nHost: a\nX:  y\nContent-Length: 60\n"));
    ck_assert_int_eq(judge_rig(rig), DISCIPLINE_FINE);
}

/* "Content-Len: 60" with "gth" on a line of its own: 0.9.75 moves the longer name elsewhere. */
START_TEST(test_a_folded_line_that_makes_another_name_is_refused)
{
    struct rig rig;
    char moved[64];
    rig_start_three(&rig);
    struct discipline_field *field = &rig.fields[_i];
    memcpy(moved, field->name.ptr, field->name.len + 1);
    field->name.ptr = moved;
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

/* 0.9.75 has cut at the NUL: the piece is shorter than its place. */
START_TEST(test_a_nul_is_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    struct slice *pieces[] = {&rig.fields[0].value, &rig.fields[1].value, &rig.fields[2].value,
                              &rig.message.target};
    pieces[_i]->len--;
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

/* A bare LF is one byte between two lines. */
START_TEST(test_a_bare_lf_is_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    struct discipline_field *fields = rig.fields;
    char *from = (char *)(uintptr_t)(_i == 0   ? fields[0].name.ptr
                                     : _i == 1 ? fields[1].name.ptr
                                               : rig.block.ptr + rig.block.len);
    size_t at = (size_t)(from - rig.block.ptr);
    memmove(from - 1, from, rig.block.len - at);
    rig.message.block.len--;
    for (size_t i = _i < 2 ? (size_t)_i : 3; i < 3; i++) {
        fields[i].name.ptr--;
        fields[i].value.ptr--;
    }
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

/* ": y": 0.9.75 takes it for the end of the header, and what follows for another request. */
START_TEST(test_a_line_without_a_name_is_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    rig.message.field_count = 1;
    size_t line = (size_t)(rig.fields[1].name.ptr - rig.block.ptr), len = strlen(": y\r\n");
    memcpy(rig.block.ptr + line, "\0 y\0\0", len);
    rig.message.block.len = line + len;
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig.message.block.len = line + 2;
    memset(rig.block.ptr + line, '\0', 2); /* a blank line ends it well */
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_FINE);
    rig_stop(&rig);
}
END_TEST

/* A field that is not told of, whatever it was. */
START_TEST(test_a_field_that_is_left_out_is_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    memmove(&rig.fields[_i], &rig.fields[_i + 1], (size_t)(2 - _i) * sizeof(rig.fields[0]));
    rig.message.field_count--;
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

/* "GET  /a": the target is farther from the method than one space. */
START_TEST(test_more_spaces_in_the_request_line_are_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    rig.message.target.ptr++; /* "abc?d" would be another form */
    rig.message.target.len--;
    rig.target[1] = '/';
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

START_TEST(test_other_bytes_between_the_pieces_are_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    struct discipline_field *f = rig.fields;
    const char *places[] = {rig.message.version.ptr + 8,
                            rig.message.version.ptr + 9,
                            f[0].name.ptr + f[0].name.len,
                            f[0].value.ptr - 1,
                            f[1].value.ptr - 2,
                            f[0].value.ptr + f[0].value.len,
                            f[0].value.ptr + f[0].value.len + 1,
                            f[2].value.ptr + f[2].value.len};
    ck_assert_int_lt(_i, COUNT(places));
    *(char *)(uintptr_t)places[_i] = 'x';
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

START_TEST(test_pieces_beyond_the_block_are_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    for (size_t len = 0; len < rig.block.len; len++) {
        rig.message.block.len = len;
        ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    }
    rig.message.block.len = rig.block.len;
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_FINE);
    rig.message.version = SLICE_LIT("HTTP/1.1");
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

START_TEST(test_pieces_in_another_order_are_refused)
{
    struct rig rig;
    rig_start_three(&rig);
    struct discipline_field first = rig.fields[0];
    rig.fields[0] = rig.fields[1];
    rig.fields[1] = first;
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
    rig_start_three(&rig);
    struct slice value = rig.fields[0].value;
    rig.fields[0].value = rig.fields[1].value;
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig.fields[0].value = value;
    rig.fields[2].value.ptr = "60"; /* not in the block at all */
    ck_assert_int_eq(judge_rig(&rig), DISCIPLINE_LINES);
    rig_stop(&rig);
}
END_TEST

/* From 1.0 on libmicrohttpd ends a value at its first trailing blank, and leaves what follows. */
static const struct {
    struct slice line;
    bool fine;
} newer[] = {
    {{"X\0 y\0\n", 6}, true},      {{"X\0y\0\n", 5}, true},      {{"X\0\0\n", 4}, true},
    {{"X\0 \t\0\n", 6}, true},     {{"X\0 y\0\r\n", 7}, true},   {{"X\0 y\0 \t\r\n", 9}, true},
    {{"X\0 y\0\t\n", 7}, true},    {{"X\0 y\0z\r\n", 8}, false}, {{"X\0 y\0 \0\r\n", 9}, false},
    {{"X\0 y\0\r\r\n", 8}, false}, {{"X\0 y\r\n", 6}, false},    {{"X\0 y\0\0\0", 7}, false},
};

START_TEST(test_lines_as_newer_versions_leave_them)
{
    struct buf block = {0};
    buf_put(&block, "GET\0/\0HTTP/1.1\0\nHost\0 a\0\n", 25);
    size_t at = block.len, host = 16;
    buf_put_slice(&block, newer[_i].line);
    buf_put(&block, "\r\n", 3);
    block.len--;
    size_t value = at + 2 + strspn(block.ptr + at + 2, " \t");
    struct discipline_field fields[] = {{{block.ptr + host, 4}, {block.ptr + host + 6, 1}},
                                        {{block.ptr + at, 1}, slice_of(block.ptr + value)}};
    if (fields[1].value.len > 1) /* "y\r\n": not ended by a NUL */
        fields[1].value.len = 1;
    struct discipline_message message = {.method = SLICE_LIT("GET"),
                                         .target = SLICE_LIT("/"),
                                         .version = {block.ptr + 6, 8},
                                         .fields = fields,
                                         .field_count = 2,
                                         .block = buf_slice(&block)};
    struct discipline_facts facts;
    enum discipline_fault fault = discipline_judge(&message, &limits, &facts);
    ck_assert_msg(fault == (newer[_i].fine ? DISCIPLINE_FINE : DISCIPLINE_LINES), "case %d: %d", _i,
                  (int)fault);
    buf_reset(&block);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("discipline");
    tcase_add_loop_test(tests, test_message_is_refused, 0, COUNT(refused));
    tcase_add_loop_test(tests, test_each_fault_has_its_case, 1, DISCIPLINE_FAULTS);
    tcase_add_loop_test(tests, test_each_refusal_says_what_is_wrong, 1, DISCIPLINE_FAULTS);
    tcase_add_test(tests, test_statuses);
    tcase_add_loop_test(tests, test_message_is_accepted, 0, COUNT(accepted));
    tcase_add_test(tests, test_fields_are_found_and_trimmed);
    tcase_add_loop_test(tests, test_body_ends_where_the_fields_say, 0, COUNT(bodies));
    tcase_add_loop_test(tests, test_paths_have_one_form, 0, COUNT(paths));
    tcase_add_loop_test(tests, test_a_folded_line_that_makes_another_name_is_refused, 0, 3);
    tcase_add_loop_test(tests, test_a_nul_is_refused, 0, 4);
    tcase_add_loop_test(tests, test_a_bare_lf_is_refused, 0, 3);
    tcase_add_test(tests, test_a_line_without_a_name_is_refused);
    tcase_add_loop_test(tests, test_a_field_that_is_left_out_is_refused, 0, 3);
    tcase_add_test(tests, test_more_spaces_in_the_request_line_are_refused);
    tcase_add_loop_test(tests, test_other_bytes_between_the_pieces_are_refused, 0, 8);
    tcase_add_test(tests, test_pieces_beyond_the_block_are_refused);
    tcase_add_test(tests, test_pieces_in_another_order_are_refused);
    tcase_add_loop_test(tests, test_lines_as_newer_versions_leave_them, 0, COUNT(newer));
    return tests_run(tests);
}
