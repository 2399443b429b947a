/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json_pointer.h"

#include "common/json.h"

bool json_pointer_is_valid(struct slice pointer)
{
    if (pointer.len > 0 && pointer.ptr[0] != '/')
        return false;
    for (size_t i = 0; i < pointer.len; i++) {
        if (pointer.ptr[i] != '~')
            continue;
        if (i + 1 == pointer.len || (pointer.ptr[i + 1] != '0' && pointer.ptr[i + 1] != '1'))
            return false;
    }
    return true;
}

bool json_pointer_is_setting(struct slice pointer)
{
    return pointer.len > 1 && pointer.len <= JSON_POINTER_MAX && !slice_has_control(pointer) &&
           json_pointer_is_valid(pointer);
}

/* RFC 6901, 4. */
static void put_name(struct buf *b, struct slice token)
{
    for (size_t i = 0; i < token.len; i++) {
        char c = token.ptr[i];
        if (c == '~')
            c = token.ptr[++i] == '1' ? '/' : '~';
        buf_putc(b, c);
    }
    buf_putc(b, '\0');
}

static enum err find_element(struct slice array, struct slice token, struct slice *out)
{
    struct slice element;
    uint64_t index;
    /* No array has more. */
    if (slice_u64(token, JSON_VALUES_MAX, &index) != OK)
        return ERR_NOT_FOUND;
    for (uint64_t i = 0; json_raw_next(&array, &element); i++) {
        if (i < index)
            continue;
        *out = element;
        return OK;
    }
    return ERR_NOT_FOUND;
}

static enum err find_member(struct slice object, struct slice token, struct slice *out)
{
    struct buf name = {0};
    put_name(&name, token);
    enum err e = json_raw_member(object, name.ptr, out);
    buf_reset(&name);
    return e;
}

enum err json_pointer_raw(struct slice text, struct slice pointer, struct slice *out)
{
    struct slice rest = pointer, at = text;
    slice_cut(&rest, '/');
    while (rest.ptr) {
        struct slice token = slice_cut(&rest, '/'), found;
        /* Only an object has members, and only an array elements. */
        if (find_member(at, token, &found) && find_element(at, token, &found))
            return ERR_NOT_FOUND;
        at = found;
    }
    *out = at;
    return OK;
}
