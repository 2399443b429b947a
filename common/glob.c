/* SPDX-License-Identifier: Apache-2.0 */
#include "common/glob.h"

#include <string.h>

bool glob_is_pattern(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (memchr("*?[\\", text.ptr[i], 4))
            return true;
    return false;
}

/* --- elements: what stands for one byte ------------------------------------------------------- */

static bool is_within(char c, char from, char to)
{
    return from <= to ? c >= from && c <= to : c >= to && c <= from;
}

/* The class behind the [ at @at, of which the ] may be missing. Returns where it ends. */
static size_t class_end(struct slice glob, size_t at, char c, bool *takes)
{
    bool is_not = at + 1 < glob.len && glob.ptr[at + 1] == '^', found = false;
    size_t i = at + 1 + is_not;
    for (; i < glob.len && glob.ptr[i] != ']'; i++) {
        if (glob.ptr[i] == '\\' && i + 1 < glob.len) {
            found |= glob.ptr[++i] == c;
        } else if (i + 2 < glob.len && glob.ptr[i + 1] == '-') {
            found |= is_within(c, glob.ptr[i], glob.ptr[i + 2]);
            i += 2;
        } else {
            found |= glob.ptr[i] == c;
        }
    }
    *takes = found != is_not;
    return i < glob.len ? i + 1 : i;
}

/* The element at @at, which is no star. Returns where the next begins. */
static size_t element_end(struct slice glob, size_t at, char c, bool *takes)
{
    if (glob.ptr[at] == '[')
        return class_end(glob, at, c, takes);
    if (glob.ptr[at] == '\\' && at + 1 < glob.len)
        at++;
    else if (glob.ptr[at] == '?')
        c = '?';
    *takes = glob.ptr[at] == c;
    return at + 1;
}

size_t glob_stars(struct slice glob)
{
    size_t count = 0;
    bool ignored;
    for (size_t at = 0; at < glob.len;) {
        bool is_star = glob.ptr[at] == '*';
        count += is_star;
        at = is_star ? at + 1 : element_end(glob, at, 'x', &ignored);
    }
    return count;
}

/* --- matching --------------------------------------------------------------------------------- */

/* The star that was opened last: what follows it in the glob, and what it stands for so far. */
struct star {
    size_t next, from, upto;
    size_t number; /* from 1 on; 0: none yet */
};

static void star_close(const struct star *star, struct slice text, struct slice *stars, size_t max)
{
    if (star->number && star->number <= max)
        stars[star->number - 1] = (struct slice){text.ptr + star->from, star->upto - star->from};
}

static void star_open(struct star *star, size_t next, size_t from)
{
    *star = (struct star){next, from, from, star->number + 1};
}

bool glob_match(struct slice glob, struct slice text, struct slice *stars, size_t max)
{
    struct star star = {0};
    size_t g = 0, t = 0;
    while (t < text.len || (g < glob.len && glob.ptr[g] == '*')) {
        bool takes = false;
        size_t next = g;
        if (g < glob.len && glob.ptr[g] == '*') {
            star_close(&star, text, stars, max);
            star_open(&star, ++g, t);
            continue;
        }
        if (g < glob.len)
            next = element_end(glob, g, text.ptr[t], &takes);
        if (takes) {
            g = next;
            t++;
        } else if (star.number) { /* it stands for one byte more */
            g = star.next;
            t = ++star.upto;
        } else {
            return false;
        }
    }
    star_close(&star, text, stars, max);
    return g == glob.len;
}
