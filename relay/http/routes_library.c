/* SPDX-License-Identifier: Apache-2.0 */
/* /client.js and /client.d.ts: the library for pages of whatever origin. */
#include "relay/http/library.h"
#include "relay/http/routes_parts.h"

struct library_file {
    const char *type, *etag;
    struct slice plain, gzip;
    bool has_types; /* in a file beside it */
};

/* The header lists validators, or is "*". Compared weakly, as RFC 9110, 13.1.2, has it. */
static bool is_known(struct slice if_none_match, const char *etag)
{
    struct slice opaque = slice_of(etag), rest = if_none_match;
    (void)slice_cut(&opaque, '/'); /* behind W/ */
    while (rest.len) {
        struct slice one = slice_trim(slice_cut(&rest, ','));
        if (slice_has_prefix(one, SLICE_LIT("W/")))
            one = (struct slice){one.ptr + 2, one.len - 2};
        if (slice_eq(one, opaque) || slice_is(one, "*"))
            return true;
    }
    return false;
}

/* There is nothing in it that a page of another origin must not see: any may import it, whatever
 * cors.origins says, and also where it isolates itself (Cross-Origin-Embedder-Policy). */
static void put_headers(const struct library_file *file, struct routes_headers *h)
{
    routes_header_add(h, "ETag", file->etag);
    routes_header_add(h, "Cache-Control", "public, max-age=3600");
    routes_header_add(h, "Vary", "Accept-Encoding");
    routes_header_add(h, "Access-Control-Allow-Origin", "*");
    routes_header_add(h, "Cross-Origin-Resource-Policy", "cross-origin");
    routes_header_add(h, "X-Content-Type-Options", "nosniff");
}

static void serve(const struct routes_visit *v, const struct library_file *file)
{
    struct routes_headers h = {0};
    struct buf body = {0};
    bool gzip = request_accepts_gzip(front_header(v->call, "Accept-Encoding"));
    put_headers(file, &h);
    if (is_known(front_header(v->call, "If-None-Match"), file->etag)) {
        front_reply(v->call, 304, h.items, h.count, NULL);
        return;
    }
    struct slice text = gzip ? file->gzip : file->plain;
    routes_header_add(&h, "Content-Type", file->type);
    if (gzip)
        routes_header_add(&h, "Content-Encoding", "gzip");
    if (file->has_types) /* for Deno */
        routes_header_add(&h, "X-TypeScript-Types", "./client.d.ts");
    buf_put(&body, text.ptr, text.len);
    front_reply(v->call, 200, h.items, h.count, &body);
}

void routes_serve_client(struct routes *r, struct routes_visit *v)
{
    const struct library_file file = {.type = "text/javascript; charset=utf-8",
                                      .etag = relay_client_js_etag,
                                      .plain = {relay_client_js, relay_client_js_len},
                                      .gzip = {relay_client_js_gz, relay_client_js_gz_len},
                                      .has_types = true};
    (void)r;
    serve(v, &file);
}

void routes_serve_client_types(struct routes *r, struct routes_visit *v)
{
    /* As text, so that a browser shows it; who reads types goes by the name. */
    const struct library_file file = {.type = "text/plain; charset=utf-8",
                                      .etag = relay_client_types_etag,
                                      .plain = {relay_client_types, relay_client_types_len},
                                      .gzip = {relay_client_types_gz, relay_client_types_gz_len}};
    (void)r;
    serve(v, &file);
}
