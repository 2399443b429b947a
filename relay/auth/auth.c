/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/auth_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "relay/kit/file.h"

enum { FILE_BYTES_MAX = 1024 * 1024 };

/* --- reading ---------------------------------------------------------------------------------- */

/* What is read is noted first: a file that is missing may come. */
static enum err read_file(struct auth *a, const char *path, struct buf *bytes, struct buf *why)
{
    strings_add_new(&a->files, slice_of(path));
    enum err e = file_read(path, FILE_BYTES_MAX, bytes);
    if (e == ERR_IO)
        buf_printf(why, "cannot read %s: %s", path, strerror(errno));
    else if (e)
        buf_printf(why, "%s is larger than 1 MB", path);
    return e;
}

struct key_reader {
    struct auth *auth;
    const char *auth_path;
};

/* Relative paths are relative to the auth file. */
static enum err read_keys(void *arg, const char *path, struct buf *bytes, struct buf *why)
{
    const struct key_reader *reader = arg;
    const char *slash = strrchr(reader->auth_path, '/');
    struct buf full = {0};
    if (path[0] != '/' && slash)
        buf_put(&full, reader->auth_path, (size_t)(slash - reader->auth_path) + 1);
    buf_puts(&full, path);
    buf_putc(&full, '\0');
    enum err e = read_file(reader->auth, full.ptr, bytes, why);
    buf_reset(&full);
    return e;
}

static enum err load_file(struct auth *a, const char *path, struct buf *why, struct buf *warnings)
{
    struct key_reader reader = {a, path};
    struct buf text = {0};
    enum err e = read_file(a, path, &text, why);
    if (e == OK)
        e = auth_file_parse(&text, read_keys, &reader, &a->file, why, warnings);
    buf_reset(&text);
    return e;
}

static char *text_or_null(const char *text)
{
    return text[0] ? slice_dup(slice_of(text)) : NULL;
}

static enum err load_short(struct auth *a, const struct config *config, struct buf *why,
                           struct buf *warnings)
{
    struct issuer_fields fields = {.iss = text_or_null(config->auth_issuer),
                                   .aud = text_or_null(config->auth_audience),
                                   .any_namespace = true};
    struct buf bytes = {0};
    for (size_t i = 0; i < config->auth_algs.count; i++)
        strings_add(&fields.algs, slice_of(config->auth_algs.items[i]));
    enum err e = read_file(a, config->auth_key_file, &bytes, why);
    if (e == OK)
        e = auth_file_make(&fields, buf_slice(&bytes), &a->file, why, warnings);
    if (bytes.ptr)
        explicit_bzero(bytes.ptr, bytes.cap);
    buf_reset(&bytes);
    issuer_fields_reset(&fields);
    return e;
}

/* --- life ------------------------------------------------------------------------------------- */

/* "auth.file /etc/auth.json: issuers[0].algs: expected …". */
static void put_why(const char *option, const char *path, const struct buf *reason, struct buf *why)
{
    buf_printf(why, "%s %s: ", option, path);
    buf_put_slice(why, buf_slice(reason));
}

enum err auth_load(const struct config *config, struct auth **out, struct buf *why,
                   struct buf *warnings)
{
    bool is_file = config->auth_file[0];
    if (!is_file && !config->auth_key_file[0]) {
        *out = NULL;
        return OK;
    }
    struct auth *a = mem_zero(1, sizeof(*a));
    struct buf reason = {0};
    atomic_init(&a->refs, 1);
    for (size_t i = 0; i < AUTH_FILE_ISSUERS_MAX; i++)
        atomic_init(&a->told[i], false);
    a->leeway_s = config->auth_leeway_ms / 1000;
    a->max_life_s = config->auth_max_token_life_ms / 1000;
    enum err e = is_file ? load_file(a, config->auth_file, &reason, warnings)
                         : load_short(a, config, &reason, warnings);
    if (e == OK) {
        *out = a;
    } else {
        put_why(is_file ? "auth.file" : "auth.key_file",
                is_file ? config->auth_file : config->auth_key_file, &reason, why);
        auth_unref(a);
    }
    buf_reset(&reason);
    return e;
}

struct auth *auth_ref(struct auth *a)
{
    atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
    return a;
}

void auth_unref(struct auth *a)
{
    if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
        return;
    auth_file_reset(&a->file);
    strings_reset(&a->files);
    free(a);
}

const struct strings *auth_files(const struct auth *a)
{
    return &a->files;
}

const struct route_map *auth_routes(const struct auth *a)
{
    return a->file.routes;
}

struct grant *auth_anonymous(const struct auth *a)
{
    return a->file.anonymous;
}

bool auth_serves_events(const struct auth *a)
{
    return a->file.serves_events;
}
