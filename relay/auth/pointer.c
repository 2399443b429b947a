/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/auth/pointer.h"

#include <math.h>
#include <string.h>

bool pointer_valid(struct slice pointer)
{
    if (pointer.len == 0 || pointer.len > POINTER_MAX || pointer.ptr[0] != '/' ||
        slice_has_control(pointer))
        return false;
    for (size_t i = 0; i < pointer.len; i++) {
        if (pointer.ptr[i] != '~')
            continue;
        char next = i + 1 < pointer.len ? pointer.ptr[i + 1] : '\0';
        if (next != '0' && next != '1')
            return false;
    }
    return true;
}

static size_t decode_step(struct slice step, char room[static POINTER_MAX + 1])
{
    size_t n = 0;
    for (size_t i = 0; i < step.len && n < POINTER_MAX; i++) {
        char c = step.ptr[i];
        if (c == '~' && i + 1 < step.len)
            c = step.ptr[++i] == '1' ? '/' : '~';
        room[n++] = c;
    }
    room[n] = '\0';
    return n;
}

static const cJSON *find_step(const cJSON *value, struct slice step)
{
    char name[POINTER_MAX + 1];
    uint64_t index;
    if (cJSON_IsArray(value))
        return slice_u64(step, INT32_MAX, &index) == OK ? cJSON_GetArrayItem(value, (int)index)
                                                        : NULL;
    if (!cJSON_IsObject(value))
        return NULL;
    decode_step(step, name);
    return cJSON_GetObjectItemCaseSensitive(value, name);
}

const cJSON *pointer_find(const cJSON *tree, struct slice pointer)
{
    slice_cut(&pointer, '/'); /* what stands before the first is empty */
    while (tree && pointer.ptr)
        tree = find_step(tree, slice_cut(&pointer, '/'));
    return tree;
}

/* --- texts ------------------------------------------------------------------------------------ */

static bool put_number(struct buf *b, double number)
{
    static const double largest = 9007199254740991.0;
    if (!(number >= -largest && number <= largest) || floor(number) < number)
        return false;
    buf_printf(b, "%.0f", number + 0.0); /* no -0 */
    return true;
}

bool pointer_put_text(struct buf *b, const cJSON *value, enum pointer_kinds kinds)
{
    if (cJSON_IsString(value)) {
        buf_puts(b, value->valuestring);
        return true;
    }
    if (cJSON_IsNumber(value))
        return put_number(b, value->valuedouble);
    if (kinds != POINTER_SCALARS || !cJSON_IsBool(value))
        return false;
    buf_puts(b, cJSON_IsTrue(value) ? "true" : "false");
    return true;
}

static bool add_text(const cJSON *value, enum pointer_kinds kinds, struct strings *out)
{
    struct buf text = {0};
    bool has = pointer_put_text(&text, value, kinds);
    if (has)
        strings_add(out, buf_slice(&text));
    buf_reset(&text);
    return has;
}

size_t pointer_texts(const cJSON *value, enum pointer_kinds kinds, struct strings *out)
{
    if (!cJSON_IsArray(value))
        return add_text(value, kinds, out) ? 0 : 1;
    size_t seen = 0, without = 0;
    for (const cJSON *item = value->child; item; item = item->next)
        without += seen++ >= POINTER_LIST_MAX || !add_text(item, kinds, out);
    return without;
}
