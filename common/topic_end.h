/* SPDX-License-Identifier: Apache-2.0 */
/* Why a topic has ended, and the words for it in publishes, envelopes, logs and answers. */
#pragma once
#include "common/err.h"
#include "common/slice.h"

/* Why a topic has ended. */
enum topic_end {
    END_NONE,
    END_DONE, /* its publisher said so */
    END_CANCELLED,
    END_TIMEOUT,
    END_COUNT,
};

/* ERR_INVALID: no such word. */
NODISCARD enum err topic_end_parse(struct slice text, enum topic_end *out);
/* "end", "cancelled", "timeout"; "" of END_NONE. */
const char *topic_end_name(enum topic_end end);
