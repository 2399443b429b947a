/* SPDX-License-Identifier: Apache-2.0 */
#include "common/nearest.h"

#include <ctype.h>
#include <string.h>

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance without regard to case, nor to which separator stands between words. */
static unsigned edit_distance(struct slice a, struct slice b)
{
    unsigned row[NEAREST_WORD_MAX + 1];
    for (size_t j = 0; j <= b.len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.len; j++) {
            int x = tolower((unsigned char)a.ptr[i - 1]), y = tolower((unsigned char)b.ptr[j - 1]);
            bool same = x == y || (strchr("-_.", x) && strchr("-_.", y));
            unsigned next = min3(row[j] + 1, row[j - 1] + 1, diagonal + !same);
            diagonal = row[j];
            row[j] = next;
        }
    }
    return row[b.len];
}

struct nearest nearest_to(struct slice word)
{
    struct nearest n = {.word = word};
    if (word.len == 0 || word.len > NEAREST_WORD_MAX)
        return n;
    n.least = (unsigned)(word.len / 3) + 1;
    if (n.least < 3)
        n.least = word.len > 3 ? 3 : 2;
    return n;
}

void nearest_consider(struct nearest *n, const char *name)
{
    struct slice known = slice_of(name);
    if (n->least == 0 || known.len > NEAREST_WORD_MAX)
        return;
    unsigned distance = edit_distance(n->word, known);
    if (distance < n->least) {
        n->least = distance;
        n->best = name;
    }
}
