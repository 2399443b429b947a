/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json_comments.h"

#include <string.h>

/* From @at on up to, not including, @end: all but the ends of lines. */
static void blank(char *text, size_t at, size_t end)
{
    for (; at < end; at++)
        if (text[at] != '\n')
            text[at] = ' ';
}

/* The end of the string that begins at @at. It ends with its line, too: JSON has no longer ones,
 * and what follows one that was not closed must not be taken for its text. */
static size_t string_end(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"' && text[at] != '\n'; at++)
        if (text[at] == '\\' && at + 1 < len && text[at + 1] != '\n')
            at++;
    return at < len ? at + 1 : len;
}

/* Not cJSON_Minify(), which moves what follows. */
size_t json_comments_blank(struct buf *b)
{
    char *text = b->ptr;
    size_t len = b->len;
    for (size_t at = 0; at < len;) {
        const char *end = NULL;
        if (text[at] == '"') {
            at = string_end(text, len, at);
        } else if (at + 1 < len && text[at] == '/' && text[at + 1] == '/') {
            end = memchr(text + at, '\n', len - at);
            end = end ? end : text + len;
        } else if (at + 1 < len && text[at] == '/' && text[at + 1] == '*') {
            end = memmem(text + at + 2, len - at - 2, "*/", 2);
            if (!end)
                return at;
            end += 2;
        } else {
            at++;
        }
        if (end) {
            blank(text, at, (size_t)(end - text));
            at = (size_t)(end - text);
        }
    }
    return len;
}

unsigned json_comments_line(const struct buf *text, size_t at)
{
    unsigned line = 1;
    for (size_t i = 0; i < at && i < text->len; i++)
        line += text->ptr[i] == '\n';
    return line;
}
