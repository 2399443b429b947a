/* SPDX-License-Identifier: Apache-2.0 */
/* JSON from HTTP clients: what is accepted must come out as JSON again. */
#include "common/json.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void expect_json(struct slice text)
{
    cJSON *tree;
    if (json_parse(text, &tree) != OK)
        abort();
    cJSON_Delete(tree);
}

/* Tree and raw text must tell of the same members. */
static void check_member(struct slice input, const cJSON *object)
{
    struct slice raw;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "data");
    bool found = json_raw_member(input, "data", &raw) == OK;
    if (found != (item != NULL && cJSON_IsObject(object)))
        abort();
    if (!found)
        return;
    struct buf b = {0};
    expect_json(raw);
    if (json_put_data(&b, raw) != OK)
        abort();
    if (!cJSON_IsString(item))
        expect_json(buf_slice(&b));
    else if (memchr(b.ptr != NULL ? b.ptr : "", '\0', b.len) != NULL)
        abort();
    buf_reset(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct slice input = {(const char *)bytes, len}, raw;
    struct buf b = {0};
    cJSON *tree;
    json_put_string(&b, input);
    expect_json(buf_slice(&b));
    buf_reset(&b);

    /* Not for the caller, but no input may break them. */
    struct slice rest = input;
    while (json_raw_next(&rest, &raw))
        if (json_put_data(&b, raw) == OK)
            buf_clear(&b);
    if (json_raw_member(input, "data", &raw) == OK && json_put_data(&b, raw) == OK)
        buf_clear(&b);
    buf_reset(&b);

    if (json_parse(input, &tree) != OK)
        return 0;
    if (cJSON_IsArray(tree)) {
        const cJSON *item;
        rest = input;
        cJSON_ArrayForEach(item, tree)
        {
            if (!json_raw_next(&rest, &raw))
                abort();
            expect_json(raw);
            check_member(raw, item);
        }
        if (json_raw_next(&rest, &raw))
            abort();
    } else {
        check_member(input, tree);
    }
    cJSON_Delete(tree);
    return 0;
}
