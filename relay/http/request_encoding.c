/* Which streams may be compressed: what a client accepts, and what it asks for. */
#include "relay/core/pattern.h"
#include "relay/http/request.h"

bool stream_request_is_within(const struct stream_request *r, const struct strings *patterns)
{
    for (size_t i = 0; i < r->topics.count; i++) {
        bool found = false;
        for (size_t p = 0; p < patterns->count && !found; p++)
            found = pattern_includes(slice_of(patterns->items[p]), slice_of(r->topics.items[i]));
        if (!found)
            return false;
    }
    return patterns->count > 0;
}

/* --- Accept-Encoding ------------------------------------------------------------------------- */

enum { UNLISTED = -1, WEIGHT_MAX = 1000 };

static struct slice trim(struct slice s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = (struct slice){s.ptr + 1, s.len - 1};
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Takes what stands before the next @mark off *rest. */
static struct slice cut(struct slice *rest, char mark)
{
    struct slice part = {rest->ptr, 0};
    while (part.len < rest->len && part.ptr[part.len] != mark)
        part.len++;
    size_t used = part.len < rest->len ? part.len + 1 : part.len;
    *rest = (struct slice){rest->ptr + used, rest->len - used};
    return trim(part);
}

/* "0", "0.5", "1.000": thousandths, from 0 to WEIGHT_MAX; 0 also for what is none of these. */
static int parse_qvalue(struct slice s)
{
    int weight = 0, unit = WEIGHT_MAX;
    if (s.len < 1 || s.len > 5 || (s.len > 1 && s.ptr[1] != '.'))
        return 0;
    for (size_t i = 0; i < s.len; i++) {
        if (i == 1)
            continue;
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return 0;
        weight += (s.ptr[i] - '0') * unit;
        unit /= 10;
    }
    return weight <= WEIGHT_MAX ? weight : 0;
}

/* The part behind the first semicolon. */
static int parse_weight(struct slice parameters)
{
    struct slice name = cut(&parameters, '=');
    return slice_eq_nocase(name, "q") ? parse_qvalue(trim(parameters)) : 0;
}

/* Listed twice: the lesser counts, so that a refusal is one. */
static void note_weight(int *known, int weight)
{
    if (*known == UNLISTED || weight < *known)
        *known = weight;
}

bool request_accepts_gzip(struct slice accept_encoding)
{
    int gzip = UNLISTED, identity = UNLISTED, any = UNLISTED;
    struct slice rest = accept_encoding;
    while (rest.len) {
        struct slice item = cut(&rest, ',');
        size_t whole = item.len;
        struct slice coding = cut(&item, ';');
        int weight = coding.len < whole ? parse_weight(item) : WEIGHT_MAX;
        if (slice_eq_nocase(coding, "gzip") || slice_eq_nocase(coding, "x-gzip"))
            note_weight(&gzip, weight);
        else if (slice_eq_nocase(coding, "identity"))
            note_weight(&identity, weight);
        else if (slice_is(coding, "*"))
            note_weight(&any, weight);
    }
    if (gzip == UNLISTED)
        gzip = any;
    if (identity == UNLISTED)
        identity = any;
    return gzip > 0 && gzip >= identity;
}
