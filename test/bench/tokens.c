/* SPDX-License-Identifier: Apache-2.0 */
#include "tokens.h"
#include "common/mem.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 << 10 };

static bool read_all(const char *path, char **text)
{
    FILE *f = fopen(path, "r");
    struct buf all = {0};
    size_t n = 0;
    bool ok = f != NULL;
    while (ok && !feof(f)) {
        buf_reserve(&all, CHUNK);
        n = fread(all.ptr + all.len, 1, CHUNK, f);
        all.len += n;
        ok = !ferror(f);
    }
    if (!ok)
        fprintf(stderr, "sse-bench: --tokens %s: %s\n", path, strerror(errno));
    if (f)
        fclose(f);
    if (ok)
        *text = buf_take(&all, NULL);
    buf_reset(&all);
    return ok;
}

bool tokens_read(struct tokens *tokens, const char *path)
{
    if (!read_all(path, &tokens->text))
        return false;
    uint32_t cap = 0;
    char *rest = NULL;
    for (char *line = strtok_r(tokens->text, "\r\n", &rest); line;
         line = strtok_r(NULL, "\r\n", &rest)) {
        if (tokens->count == cap) {
            cap = cap ? 2 * cap : 16;
            tokens->items = mem_resize(tokens->items, cap * sizeof *tokens->items);
        }
        tokens->items[tokens->count++] = line;
    }
    if (tokens->count == 0)
        fprintf(stderr, "sse-bench: --tokens %s: there is none in it\n", path);
    return tokens->count > 0;
}

void tokens_put(const struct tokens *tokens, uint32_t client, struct buf *out)
{
    if (tokens->count == 0)
        return;
    buf_puts(out, "Authorization: Bearer ");
    buf_puts(out, tokens->items[client % tokens->count]);
    buf_puts(out, "\r\n");
}

void tokens_reset(struct tokens *tokens)
{
    free(tokens->items);
    free(tokens->text);
    *tokens = (struct tokens){0};
}
