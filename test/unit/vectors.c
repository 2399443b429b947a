/* SPDX-License-Identifier: Apache-2.0 */
#include "test/unit/vectors.h"
#include "common/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cJSON cannot hold NUL in a string: this character of the private area stands for it meanwhile. */
static const char stand_in[] = "\xEE\x80\x80";

static struct buf read_file(const char *path)
{
    struct buf b = {0};
    char chunk[4096];
    size_t got;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        abort();
    }
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0)
        buf_put(&b, chunk, got);
    fclose(file);
    return b;
}

static struct buf replace_all(struct slice text, struct slice from, struct slice to)
{
    struct buf b = {0};
    while (text.len > 0) {
        bool hit = slice_has_prefix(text, from);
        buf_put_slice(&b, hit ? to : (struct slice){text.ptr, 1});
        size_t used = hit ? from.len : 1;
        text = (struct slice){text.ptr + used, text.len - used};
    }
    return b;
}

cJSON *vectors_load(const char *file)
{
    const char *folder = getenv("TEST_VECTORS");
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder != NULL ? folder : "test/vectors", file);
    buf_putc(&path, '\0');
    struct buf text = read_file(path.ptr);
    struct buf copy = replace_all(buf_slice(&text), SLICE_LIT("\\u0000"), slice_of(stand_in));
    cJSON *tree = cJSON_ParseWithLength(copy.ptr, copy.len);
    if (tree == NULL) {
        fprintf(stderr, "%s: not JSON\n", path.ptr);
        abort();
    }
    buf_reset(&copy);
    buf_reset(&text);
    buf_reset(&path);
    return tree;
}

struct slice vectors_text(const cJSON *item)
{
    if (item == NULL)
        return SLICE_NONE;
    if (!cJSON_IsString(item))
        abort();
    struct buf b = replace_all(slice_of(item->valuestring), slice_of(stand_in), SLICE_LIT("\0"));
    size_t len;
    char *text = buf_take(&b, &len);
    return (struct slice){text, len};
}
