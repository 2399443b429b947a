/* SPDX-License-Identifier: Apache-2.0 */
/* Events in the format json. The first byte picks how, the rest is the data. Checked: one frame
 * with one data line, which is JSON with the members of docs/protocol.md, 4.9, in their order;
 * `data` is what the publisher wrote; and what is taken for JSON is what cJSON takes for it. */
#include <stdlib.h>
#include <string.h>

#include "common/event.h"
#include "common/json.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* What a client makes of the data of a plain frame. */
static void put_text(struct buf *b, struct slice frame)
{
    const char *sep = "";
    while (frame.len > 0) {
        struct slice line = slice_cut(&frame, '\n');
        if (!slice_has_prefix(line, SLICE_LIT("data: ")))
            continue;
        buf_puts(b, sep);
        buf_put(b, line.ptr + 6, line.len - 6);
        sep = "\n";
    }
}

static void check_judgement(struct slice text)
{
    cJSON *tree = NULL;
    enum err e = json_parse(text, &tree);
    bool has_mark = slice_has_prefix(text, SLICE_LIT("\xEF\xBB\xBF"));
    CHECK(e == ERR_RANGE || json_is_valid(text) == (e == OK && !has_mark));
    cJSON_Delete(tree);
}

/* @text: the client's of the plain frame. */
static void check_data(struct slice envelope, struct slice text, bool is_piece)
{
    struct buf value = {0}, want = {0};
    struct slice raw;
    CHECK(json_raw_member(envelope, "data", &raw) == OK);
    if (!is_piece && json_is_valid(text)) {
        CHECK(json_put_dense(&value, raw) == OK && json_put_dense(&want, text) == OK);
    } else {
        CHECK(raw.len >= 2 && raw.ptr[0] == '"');
        CHECK(json_put_data(&value, raw) == OK);
        buf_put_slice(&want, text);
    }
    CHECK(value.len == want.len && (!want.len || memcmp(value.ptr, want.ptr, want.len) == 0));
    buf_reset(&value);
    buf_reset(&want);
}

static void check_order(const cJSON *tree, bool has_type)
{
    static const char *const names[] = {"topic", "event", "time", "data"};
    const cJSON *member = tree->child;
    for (size_t i = 0; i < 4; i++) {
        if (i == 1 && !has_type)
            continue;
        CHECK(member && strcmp(member->string, names[i]) == 0);
        member = member->next;
    }
    CHECK(!member);
}

static void check_frame(struct slice frame, const struct event *plain, bool has_type)
{
    struct buf text = {0};
    struct slice rest = frame, envelope;
    cJSON *tree = NULL;
    CHECK(slice_has_prefix(slice_cut(&rest, '\n'), SLICE_LIT("id: 7000")));
    if (has_type)
        CHECK(slice_has_prefix(slice_cut(&rest, '\n'), SLICE_LIT("event: ")));
    envelope = slice_cut(&rest, '\n');
    CHECK(slice_has_prefix(envelope, SLICE_LIT("data: ")) && slice_is(rest, "\n"));
    envelope = (struct slice){envelope.ptr + 6, envelope.len - 6};
    enum err e = json_parse(envelope, &tree);
    CHECK(e == OK || e == ERR_RANGE || e == ERR_FULL);
    if (e == OK)
        check_order(tree, has_type);
    cJSON_Delete(tree);
    put_text(&text, event_frame(plain));
    struct slice said = text.len ? buf_slice(&text) : SLICE_LIT("");
    check_judgement(said);
    check_data(envelope, said, event_lane(plain) == LANE_APPENDED);
    buf_reset(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 1)
        return 0;
    bool swaps = bytes[0] & 4, typed = bytes[0] & 2;
    struct event_fields fields = {.id = 7000,
                                  .retry_ms = -1,
                                  .ns = SLICE_LIT("n"),
                                  .topic = SLICE_LIT("a\"b\\.c"),
                                  .type = typed ? SLICE_LIT("t\"") : SLICE_NONE,
                                  .data = {(const char *)bytes + 1, len - 1},
                                  .is_untyped = !typed,
                                  .lane = bytes[0] & 1 ? LANE_APPENDED : LANE_INSTANT};
    struct event *ev = event_new(&fields, 0);
    struct event_form *form = event_form(ev, EVENT_AS_JSON | (swaps ? EVENT_SWAPS_TYPE : 0));
    check_frame(event_form_frame(form), ev, typed || swaps);
    event_unref(ev);
    return 0;
}
