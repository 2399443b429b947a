/* SPDX-License-Identifier: Apache-2.0 */
/* Cookie and Authorization headers, split at the byte 1: what is found stands in them, and has a
 * credential's form. */
#include <stdlib.h>
#include <string.h>

#include "relay/http/credential.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void expect(bool truth)
{
    if (!truth)
        abort();
}

static void check_form(struct slice text)
{
    expect(text.len > 0);
    for (size_t i = 0; i < text.len; i++)
        expect(text.ptr[i] > ' ' && text.ptr[i] < 127 && !strchr(";,\"", text.ptr[i]));
}

static bool is_within(struct slice part, struct slice whole)
{
    return part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct slice rest = {(const char *)bytes, len};
    struct request_view view = {0};
    struct credential_sources from = {.view = &view, .cookie_name = "sse"};
    struct credential c;
    const char *why;
    bool bearer = len && bytes[0] & 1;
    if (bearer)
        from.authorization = slice_cut(&rest, 1);
    while (rest.ptr && from.cookie_count < CREDENTIAL_COOKIES_MAX)
        from.cookies[from.cookie_count++] = slice_cut(&rest, 1);
    if (credential_find(&from, &c, &why) || c.kind == CREDENTIAL_NONE)
        return 0;
    check_form(c.text);
    expect(c.kind == (bearer ? CREDENTIAL_BEARER : CREDENTIAL_COOKIE));
    expect(is_within(c.text, (struct slice){(const char *)bytes, len}));
    struct slice ns;
    if (credential_ticket_ns(c.text, &ns) == OK)
        expect(is_within(ns, c.text) && ns.len > 0 && ns.len <= 64);
    return 0;
}
