/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that are cut into events. The first byte picks the kind and the size of the pieces, the
 * second the bound. Checked: no crash; the same events, or the same text, whether the body comes
 * whole, in pieces or byte by byte; no event above the bound; never more held than that; chunks are
 * whole characters, and all of the body. */
#include <stdlib.h>

#include "relay/core/cutter.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void put(struct buf *out, enum cutter_kind kind, const struct cut *cut)
{
    if (kind != CUTTER_CHUNKS) {
        buf_printf(out, "%zu,%zu:", cut->type.ptr ? cut->type.len + 1 : 0, cut->data.len);
        if (cut->type.ptr)
            buf_put_slice(out, cut->type);
    }
    buf_put_slice(out, cut->data);
}

static enum err cut_all(enum cutter_kind kind, size_t max, struct slice body, size_t piece,
                        struct buf *out)
{
    struct cutter c;
    struct cut cut;
    enum err e = ERR_AGAIN;
    cutter_init(&c, kind, max);
    while (body.len && e == ERR_AGAIN) {
        struct slice part = {body.ptr, body.len < piece ? body.len : piece};
        body = (struct slice){body.ptr + part.len, body.len - part.len};
        while ((e = cutter_next(&c, &part, &cut)) == OK) {
            CHECK(cut.data.ptr && cut.data.len <= max);
            CHECK(kind != CUTTER_CHUNKS || (cut.data.len && slice_utf8_valid(cut.data)));
            CHECK(kind != CUTTER_LINES || cut.data.len);
            put(out, kind, &cut);
        }
        CHECK(e != ERR_AGAIN || part.len == 0);
        CHECK(e != ERR_AGAIN || cutter_bytes(&c) <= max + 1 + SSE_PARSER_TYPE_MAX);
    }
    if (e == ERR_AGAIN) {
        e = cutter_end(&c, &cut);
        if (e == OK)
            put(out, kind, &cut);
        CHECK(e == OK || e == ERR_NOT_FOUND || (e == ERR_INVALID && kind == CUTTER_CHUNKS) ||
              (e == ERR_RANGE && kind == CUTTER_LINES));
    }
    cutter_reset(&c);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const enum cutter_kind kinds[] = {CUTTER_SSE, CUTTER_LINES, CUTTER_CHUNKS};
    if (len < 2)
        return 0;
    enum cutter_kind kind = kinds[bytes[0] % 3];
    struct slice body = {(const char *)bytes + 2, len - 2};
    struct buf outs[3] = {{0}};
    size_t pieces[3] = {body.len + 1, (size_t)bytes[0] / 3 + 1, 1};
    enum err ends[3];
    for (int i = 0; i < 3; i++)
        ends[i] = cut_all(kind, 4 + (size_t)bytes[1], body, pieces[i], &outs[i]);
    for (int i = 1; i < 3; i++) {
        CHECK(ends[i] == ends[0]);
        /* What comes before the fault in one piece with it may have been handed out, or not. */
        if (kind != CUTTER_CHUNKS || ends[0] != ERR_INVALID)
            CHECK(slice_eq(buf_slice(&outs[i]), buf_slice(&outs[0])));
    }
    if (kind == CUTTER_CHUNKS && ends[0] == ERR_NOT_FOUND)
        CHECK(slice_eq(buf_slice(&outs[0]), body));
    for (int i = 0; i < 3; i++)
        buf_reset(&outs[i]);
    return 0;
}
