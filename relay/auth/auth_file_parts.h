/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of auth_file share: for them only. */
#pragma once
#include "relay/auth/auth_file.h"
#include "relay/auth/place.h"

/* Who reads key files. */
struct auth_file_keys {
    auth_file_read_keys *read;
    void *arg;
};

/* The `issuers` of the whole file @tree. */
NODISCARD enum err auth_file_read_issuers(const cJSON *tree, struct auth_file_keys *keys,
                                          struct auth_file *out, struct buf *why,
                                          struct buf *warnings);
/* @fields, without keys: taken over, or emptied. @key_path: where the bytes are from, for errors;
 * NULL: the caller says so. @claims: as in the file; NULL: as usual. */
NODISCARD enum err auth_file_add_issuer(struct issuer_fields *fields, struct slice key_bytes,
                                        const char *key_path, const struct place *at,
                                        const cJSON *claims, struct auth_file *out, struct buf *why,
                                        struct buf *warnings);
