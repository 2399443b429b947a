/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of discipline share, for them only: discipline_lines.c judges bytes and lines,
 * discipline_target.c the request line's target, discipline.c what the fields say. */
#pragma once
#include "relay/http/discipline.h"

/* RFC 9110, 5.6.2: not empty, and only characters that a name may have. */
bool discipline_is_token(struct slice s);
/* Method and version, the number of fields, the bytes of each, and what stands between them. */
NODISCARD enum discipline_fault discipline_judge_lines(const struct discipline_message *message,
                                                       const struct discipline_limits *limits);
/* Writes out->path, out->query, and out->host where the target has one. */
NODISCARD enum discipline_fault discipline_judge_target(const struct discipline_message *message,
                                                        struct discipline_facts *out);
