/* SPDX-License-Identifier: Apache-2.0 */
/* Auth files and tokens for tests. Wherever JSON is given, ' stands for ". */
#pragma once
#include "relay/auth/auth.h"

#include <check.h>

extern const uint64_t
    rig_now_s; /* tokens are judged at this time, and by default valid for 300 s */

cJSON *rig_json(const char *text); /* cJSON_Delete() it */
/* Fails unless @list is @words, which spaces separate, in that order. */
void rig_expect(const struct strings *list, const char *words);
/* Fails unless @text has each of @parts, which bars separate. */
void rig_expect_parts(struct slice text, const char *parts);

/* An auth file of this text, in a folder of its own with `secret`, a key for HS256. Fails when it
 * is refused. auth_unref() it. */
struct auth *rig_auth(const char *text);
/* The same with one issuer, iss "i", that may speak for the namespace t1, and @more members:
 * "'rules': [...]". */
struct auth *rig_auth_with(const char *more);
/* The refusal of an auth file; fails when it is accepted. free() it. */
char *rig_refusal(const char *text);
void rig_warnings(const char *text, struct buf *warnings);

/* Signed for the above; iss and exp are added unless @claims has them. free() it. */
char *rig_token(const char *claims);
/* What @claims come to; fails when the token is refused. grant_unref() it. */
struct grant *auth_rig_grant(const struct auth *auth, const char *claims);
enum err rig_verify(const struct auth *auth, const char *text, struct grant **out,
                    struct auth_refusal *refusal);
