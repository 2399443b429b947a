/* SPDX-License-Identifier: Apache-2.0 */
/* JSON objects that decide who somebody is: headers, claims and keys. Two programs that read the
 * same one must not see different things in it, so no object in it has two members of one name, and
 * no text an escaped NUL or half of a surrogate pair (json_parse() puts something else in their
 * place). No I/O; any thread. */
#pragma once
#include "common/json.h"

/* ERR_INVALID: not such an object; *why, static, says what is wrong. The caller owns *out. */
NODISCARD enum err members_parse(struct slice text, cJSON **out, const char **why);
/* Whether no object in @tree has two members of one name. */
bool members_are_unique(const cJSON *tree);
/* The text of a member; NULL: there is none, or it is no text. */
const char *member_text(const cJSON *object, const char *name);
