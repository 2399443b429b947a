/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP messages. The first byte says what is known of the header's bytes, the second spoils one of
 * them; the rest is a message, a line for each part, in which a byte below 9 stands for a name that
 * matters. Checked: no crash, a refusal says something, and what is accepted is read alike by a
 * parser that forgives everything. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/origin.h"
#include "relay/http/discipline.h"

enum { FIELDS_MAX = 64, NAMES = 9, BODY_MAX = 100000 };
enum { KNOWS_BLOCK = 1, NEWER = 2, SPOILS = 4, FOLDS = 8 };
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const struct discipline_limits limits = {.max_fields = FIELDS_MAX - 1,
                                                .max_body_bytes = BODY_MAX};
static const char *const names[NAMES] = {"Host",          "Content-Length", "Transfer-Encoding",
                                         "Authorization", "Origin",         "Last-Event-ID",
                                         "Content-Type",  "Expect",         "Content-Encoding"};

/* --- a message as libmicrohttpd hands it out -----------------------------------------------------
 */

struct parts {
    struct buf block;
    size_t version_at, at[2 * FIELDS_MAX]; /* in the block, as it grows */
    struct discipline_field fields[FIELDS_MAX];
    struct discipline_message message;
};

static void put_line_end(struct parts *p, unsigned how)
{
    buf_put(&p->block, how & NEWER ? "\0\n" : "\0\0", 2);
}

static void put_field(struct parts *p, struct slice line, unsigned how)
{
    struct discipline_field *field = &p->fields[p->message.field_count];
    struct slice rest = line;
    if (line.len && (unsigned char)line.ptr[0] < NAMES) {
        field->name = slice_of(names[(unsigned char)line.ptr[0]]);
        slice_cut(&rest, ':');
    } else {
        field->name = slice_cut(&rest, ':');
    }
    p->at[2 * p->message.field_count] = p->block.len;
    buf_put_slice(&p->block, field->name);
    buf_putc(&p->block, '\0');
    for (; rest.len && (*rest.ptr == ' ' || *rest.ptr == '\t'); rest.ptr++, rest.len--)
        buf_putc(&p->block, *rest.ptr);
    p->at[2 * p->message.field_count++ + 1] = p->block.len;
    field->value = rest;
    buf_put_slice(&p->block, rest);
    put_line_end(p, how);
}

static void point_into_block(struct parts *p, unsigned how)
{
    struct discipline_message *m = &p->message;
    m->block = buf_slice(&p->block);
    m->version.ptr = p->block.ptr + p->version_at;
    for (size_t i = 0; i < m->field_count; i++) {
        bool folded = (how & FOLDS) && i + 1 == m->field_count; /* its name is elsewhere then */
        if (!folded)
            p->fields[i].name.ptr = p->block.ptr + p->at[2 * i];
        p->fields[i].value.ptr = p->block.ptr + p->at[2 * i + 1];
    }
}

static void parts_make(struct parts *p, struct slice text, unsigned how, unsigned spoilt)
{
    struct slice rest = text, line = slice_cut(&rest, '\n');
    struct discipline_message *m = &p->message;
    m->method = slice_cut(&line, ' ');
    m->target = slice_cut(&line, ' ');
    m->version = line;
    m->fields = p->fields;
    buf_put_slice(&p->block, m->method);
    buf_putc(&p->block, '\0');
    buf_put_slice(&p->block, m->target);
    buf_putc(&p->block, '\0');
    p->version_at = p->block.len;
    buf_put_slice(&p->block, m->version);
    put_line_end(p, how);
    while (rest.ptr && m->field_count < FIELDS_MAX)
        put_field(p, slice_cut(&rest, '\n'), how);
    put_line_end(p, how);
    if (how & KNOWS_BLOCK)
        point_into_block(p, how);
    if (how & SPOILS)
        p->block.ptr[spoilt % p->block.len] = (char)(spoilt >> 4);
}

/* --- a parser that forgives everything
 * ------------------------------------------------------------ */

struct reading {
    size_t lengths, codings, hosts, names;
    uint64_t length;
    bool chunked;
};

static bool is_named(const char *line, size_t len, const char *name)
{
    char word[64];
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < sizeof word; i++)
        if ((unsigned char)line[i] > ' ')
            word[n++] = line[i];
    word[n] = '\0';
    return strcasecmp(word, name) == 0;
}

static void read_line(struct reading *r, char *line)
{
    char *colon = strchr(line, ':');
    if (!colon)
        return;
    size_t len = (size_t)(colon - line);
    r->names++;
    r->hosts += is_named(line, len, "Host");
    if (is_named(line, len, "Content-Length")) {
        r->lengths++;
        r->length = strtoull(colon + 1, NULL, 0);
    }
    if (is_named(line, len, "Transfer-Encoding")) {
        r->codings++;
        r->chunked = strcasestr(colon + 1, "chunked") != NULL;
    }
}

/* CR, LF and NUL each end a line. */
static struct reading read_message(const struct discipline_message *m)
{
    struct reading r = {0};
    struct buf text = {0};
    for (size_t i = 0; i < m->field_count; i++) {
        buf_put_slice(&text, m->fields[i].name);
        buf_putc(&text, ':');
        buf_put_slice(&text, m->fields[i].value);
        buf_putc(&text, '\n');
    }
    buf_putc(&text, '\0');
    for (size_t i = 0; i + 1 < text.len; i++)
        if (text.ptr[i] == '\r' || text.ptr[i] == '\n')
            text.ptr[i] = '\0';
    for (size_t i = 0; i < text.len; i += strlen(text.ptr + i) + 1)
        read_line(&r, text.ptr + i);
    buf_reset(&text);
    return r;
}

static void check_reading(const struct discipline_message *m, const struct discipline_facts *f)
{
    struct reading r = read_message(m);
    CHECK(r.names == m->field_count); /* a colon in a name, a line end in a value: more lines */
    CHECK(r.hosts <= 1 && r.lengths + r.codings <= 1);
    CHECK(r.lengths == (f->body == DISCIPLINE_LENGTH));
    CHECK(r.codings == (f->body == DISCIPLINE_CHUNKED) && r.chunked == (r.codings == 1));
    CHECK(!r.lengths || (r.length == f->content_length && r.length <= BODY_MAX));
}

/* --- what is promised
 * ------------------------------------------------------------------------------ */

static void check_path(struct slice path)
{
    struct buf once = {0}, twice = {0};
    CHECK(path.len && (path.ptr[0] == '/' || slice_is(path, "*")));
    for (size_t i = 0; i < path.len; i++)
        CHECK(path.ptr[i] > ' ' && path.ptr[i] < 0x7f && !strchr("?#", path.ptr[i]));
    discipline_put_path(&once, path);
    discipline_put_path(&twice, buf_slice(&once));
    CHECK(once.len <= path.len && slice_eq(buf_slice(&once), buf_slice(&twice)));
    CHECK(!memmem(once.ptr, once.len, "%00", 3));
    buf_reset(&once);
    buf_reset(&twice);
}

static void check_value(struct slice value)
{
    CHECK(slice_eq(slice_trim(value), value));
    for (size_t i = 0; i < value.len; i++)
        CHECK((unsigned char)value.ptr[i] >= ' ' || value.ptr[i] == '\t');
}

static void check_facts(const struct discipline_message *m, const struct discipline_facts *f)
{
    struct origin_hosts none = {NULL, NULL, false};
    struct slice values[] = {f->authorization, f->origin, f->last_event_id, f->content_type};
    check_path(f->path);
    for (size_t i = 0; i < f->query.len; i++)
        CHECK((unsigned char)f->query.ptr[i] > ' ' && f->query.ptr[i] != '#');
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        check_value(values[i]);
    CHECK(!f->host.len || origin_host_valid(f->host));
    CHECK(f->coding == DISCIPLINE_PLAIN || f->body != DISCIPLINE_NO_BODY);
    if (origin_is_same(f->origin, f->host))
        CHECK(f->origin.len >= f->host.len && origin_host_valid(f->host));
    (void)origin_host_allowed(f->host, &none);
    check_reading(m, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct discipline_facts facts, blind;
    if (len < 2)
        return 0;
    struct parts p = {0};
    parts_make(&p, (struct slice){(const char *)bytes + 2, len - 2}, bytes[0], bytes[1]);
    enum discipline_fault fault = discipline_judge(&p.message, &limits, &facts);
    CHECK(fault >= DISCIPLINE_FINE && fault < DISCIPLINE_FAULTS);
    if (fault == DISCIPLINE_FINE) {
        CHECK(!(bytes[0] & KNOWS_BLOCK) || !(bytes[0] & FOLDS) || !p.message.field_count);
        check_facts(&p.message, &facts);
        p.message.block = SLICE_NONE; /* to know less is never to refuse more */
        CHECK(discipline_judge(&p.message, &limits, &blind) == DISCIPLINE_FINE);
        CHECK(slice_eq(blind.path, facts.path) && slice_eq(blind.host, facts.host));
        CHECK(blind.body == facts.body && blind.content_length == facts.content_length);
    } else {
        CHECK(discipline_refusal(fault)->status >= 400 && discipline_refusal(fault)->detail[0]);
    }
    buf_reset(&p.block);
    return 0;
}
