/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that somebody presents as a token. */
#include "common/base64url.h"
#include "relay/auth/claims.h"
#include "relay/auth/jws.h"
#include "relay/auth/members.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* What is read of it, written again, must be the text: it has no second one. */
static void check_canonical(struct slice text)
{
    struct buf again = {0};
    while (text.ptr) {
        struct buf part = {0};
        struct slice digits = slice_cut(&text, '.');
        if (base64url_decode(digits, &part) != OK)
            abort();
        buf_clear(&again);
        base64url_put(&again, part.ptr, part.len);
        if (!slice_eq(buf_slice(&again), digits))
            abort();
        buf_reset(&part);
    }
    buf_reset(&again);
}

static void check_token(struct slice text, const struct jws *jws)
{
    const struct claims_wanted wanted = {.iss = "i",
                                         .aud = "a",
                                         .aud_claim = "/x/0/~1",
                                         .now_s = 1800000000,
                                         .leeway_s = 30,
                                         .max_life_s = 2592000};
    if (!members_are_unique(jws->header) || !members_are_unique(jws->claims) ||
        jws->alg >= ALG_COUNT || text.len > JWS_TEXT_MAX)
        abort();
    if (strcmp(member_text(jws->header, "alg"), alg_row(jws->alg)->name) != 0)
        abort();
    if (jws->signed_text.ptr != text.ptr || text.ptr[jws->signed_text.len] != '.')
        abort();
    check_canonical(text);
    uint64_t exp_s;
    if (!claims_check(jws->claims, &wanted) &&
        (claims_time(jws->claims, "exp", &exp_s) != OK || exp_s + 30 <= wanted.now_s))
        abort();
}

static void parse(struct slice text)
{
    struct jws jws;
    if (!jws_parse(text, &jws))
        check_token(text, &jws);
    else if (jws.header || jws.claims || jws.signature.ptr)
        abort();
    jws_reset(&jws);
}

/* The input as header and claims, which no fuzzer would find through base64. */
static void parse_encoded(struct slice input)
{
    struct buf text = {0};
    struct slice header = slice_cut(&input, '\n');
    base64url_put(&text, header.ptr, header.len);
    buf_putc(&text, '.');
    if (input.ptr)
        base64url_put(&text, input.ptr, input.len);
    buf_puts(&text, ".c2ln");
    parse(buf_slice(&text));
    buf_reset(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct slice input = {(const char *)bytes, len};
    parse(input);
    parse_encoded(input);
    return 0;
}
