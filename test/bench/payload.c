/* SPDX-License-Identifier: Apache-2.0 */
#include "payload.h"

enum { ITEM_MAX = 112, NOTE_LEN = 12 }; /* bytes of an item, and of what is around the note */

static uint64_t next(uint64_t *random)
{
    return *random = tag_hash(*random + 1);
}

static const char *pick_word(uint64_t *random)
{
    static const char *const words[] = {
        "pending", "shipped", "cancelled", "returned", "invoice", "customer", "express", "standard",
        "weekend", "morning", "warehouse", "parcel",   "berlin",  "paris",    "madrid",  "lisbon",
    };
    return words[next(random) % (sizeof words / sizeof words[0])];
}

static void put_item(struct buf *out, uint64_t *random)
{
    buf_printf(out, "{\"sku\":\"SKU-%06u\",", (unsigned)(next(random) % 1000000));
    buf_printf(out, "\"quantity\":%u,", (unsigned)(1 + next(random) % 9));
    buf_printf(out, "\"price_cents\":%u,", (unsigned)(next(random) % 100000));
    buf_printf(out, "\"state\":\"%s\",", pick_word(random));
    buf_printf(out, "\"ship_to\":\"%s\"}", pick_word(random));
}

/* An order as a shop might tell it: names that repeat, values that do not. What its items leave
 * open is a note. */
static void put_order(struct buf *out, const struct tag *tag, size_t size)
{
    uint64_t random = tag_hash(tag->g);
    size_t end = out->len + size;
    buf_puts(out, "{\"tag\":\"");
    buf_reserve(out, TAG_MAX);
    out->len += tag_write(tag, out->ptr + out->len, 0);
    buf_printf(out, "\",\"order\":%llu,\"customer\":\"%016llx\",\"currency\":\"EUR\",\"items\":[",
               (unsigned long long)tag->g, (unsigned long long)next(&random));
    for (size_t i = 0; out->len + ITEM_MAX + NOTE_LEN < end; i++) {
        if (i)
            buf_putc(out, ',');
        put_item(out, &random);
    }
    buf_puts(out, "],\"note\":\"");
    while (out->len + 2 < end)
        buf_printf(out, "%s ", pick_word(&random));
    if (out->len + 2 > end && out->ptr[out->len - 1] == ' ')
        out->len = end - 2;
    buf_puts(out, "\"}");
}

void payload_write(struct buf *out, enum payload_kind kind, const struct tag *tag, size_t size)
{
    if (kind == PAYLOAD_JSON) {
        put_order(out, tag, size);
        return;
    }
    buf_reserve(out, size + TAG_MAX);
    out->len += tag_write(tag, out->ptr + out->len, size);
}
