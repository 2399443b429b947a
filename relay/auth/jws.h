/* SPDX-License-Identifier: Apache-2.0 */
/* A signed token in its compact form (RFC 7515, 3.1), taken apart but not yet believed: whose it is
 * decides which keys may verify it. No I/O; any thread. */
#pragma once
#include "common/json.h"
#include "relay/auth/alg.h"

enum { JWS_TEXT_MAX = 8192 };

struct jws {
    cJSON *header, *claims; /* objects without doubled members */
    enum alg alg;
    const char *kid, *typ;    /* of the header; NULL: it has none */
    struct slice signed_text; /* borrowed from the token's text */
    struct buf signature;
};

/* NULL: @out is filled, and borrows from @text. Otherwise a static reason, and @out is empty. A
 * token has one text only, but with ECDSA, where everybody can turn a signature into a second one
 * (s into n - s): so what is revoked is a jti, a subject or a kid, and never a text. */
const char *jws_parse(struct slice text, struct jws *out);
void jws_reset(struct jws *jws);
