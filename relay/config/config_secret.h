/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords from files, and what of the options about Redis must fit together. */
#pragma once
#include "common/buf.h"
#include "relay/config/config_settings.h"

/* Reads the files that hold passwords into their options; the sentence goes to *why. */
NODISCARD enum err config_secret_load(struct config *c, struct buf *why);
/* Afterwards: whether what concerns Redis fits together. Whether TLS can be had, and its files are
 * good, is not asked here: redis_target_check(). */
NODISCARD enum err config_secret_check(const struct config *c, struct buf *why);
bool config_secret_in_url(const char *url); /* it holds a password */
