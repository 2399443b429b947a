/* SPDX-License-Identifier: Apache-2.0 */
/* Accept-Encoding: whether a stream may be compressed. */
#include "relay/http/request.h"

enum { UNLISTED = -1, WEIGHT_MAX = 1000 };

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
    struct slice name = slice_trim(slice_cut(&parameters, '='));
    return slice_eq_nocase(name, "q") ? parse_qvalue(slice_trim(parameters)) : 0;
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
        struct slice parameters = slice_cut(&rest, ',');
        struct slice coding = slice_trim(slice_cut(&parameters, ';'));
        int weight = parameters.ptr ? parse_weight(parameters) : WEIGHT_MAX;
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
