/* SPDX-License-Identifier: Apache-2.0 */
/* Percent-encoding in the text of URLs and forms (RFC 3986, 2.1). No I/O. */
#pragma once
#include "common/buf.h"

enum url_plus { URL_PLUS_IS_PLUS, URL_PLUS_IS_SPACE /* application/x-www-form-urlencoded */ };

/* Decodes into @room, which holds at least as many bytes as @s; *out is what stands there, and may
 * hold NUL. ERR_INVALID: a % without two hexadecimal digits behind it. */
NODISCARD enum err url_decode(struct slice s, enum url_plus plus, char *room, struct slice *out);
/* Appends @s with everything encoded but letters, digits and `- . _ ~`. */
void url_encode(struct buf *b, struct slice s);
