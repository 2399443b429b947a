/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/claim_text.h"

#include <math.h>

static bool put_number(struct buf *b, double number)
{
    static const double largest = 9007199254740991.0;
    if (!(number >= -largest && number <= largest) || floor(number) < number)
        return false;
    buf_printf(b, "%.0f", number + 0.0); /* no -0 */
    return true;
}

bool claim_text_put(struct buf *b, const cJSON *value, enum claim_text_kinds kinds)
{
    if (cJSON_IsString(value)) {
        buf_puts(b, value->valuestring);
        return true;
    }
    if (cJSON_IsNumber(value))
        return put_number(b, value->valuedouble);
    if (kinds != CLAIM_SCALARS || !cJSON_IsBool(value))
        return false;
    buf_puts(b, cJSON_IsTrue(value) ? "true" : "false");
    return true;
}

static bool add_text(const cJSON *value, enum claim_text_kinds kinds, struct strings *out)
{
    struct buf text = {0};
    bool has = claim_text_put(&text, value, kinds);
    if (has)
        strings_add(out, buf_slice(&text));
    buf_reset(&text);
    return has;
}

size_t claim_text_all(const cJSON *value, enum claim_text_kinds kinds, struct strings *out)
{
    if (!cJSON_IsArray(value))
        return add_text(value, kinds, out) ? 0 : 1;
    size_t seen = 0, without = 0;
    for (const cJSON *item = value->child; item; item = item->next)
        without += seen++ >= CLAIM_TEXT_LIST_MAX || !add_text(item, kinds, out);
    return without;
}
