/* SPDX-License-Identifier: Apache-2.0 */
/* The auth file: JSON with comments to what decides. Refused as a whole when anything in it is
 * wrong. No I/O: others read the files that it names. docs/protocol.md, 14. */
#pragma once
#include "relay/auth/claim_form.h"
#include "relay/auth/issuer.h"
#include "relay/auth/route_map.h"
#include "relay/auth/rules.h"
#include "relay/auth/static_keys.h"

enum { AUTH_FILE_ISSUERS_MAX = 64 };

struct auth_file_issuer {
    struct issuer *issuer;
    struct claim_form *form;
};

/* Owned. */
struct auth_file {
    struct auth_file_issuer *issuers;
    size_t issuer_count;
    struct rules *rules;
    struct static_keys *keys;
    struct grant *anonymous; /* NULL: requests without credentials get nothing */
    struct route_map *routes;
    bool serves_events; /* GET /events */
};

/* Appends the bytes of the key file @path, as it stands in the auth file. On an error *why says
 * what is wrong. */
typedef enum err auth_file_read_keys(void *arg, const char *path, struct buf *bytes,
                                     struct buf *why);

/* @text: the file's bytes; comments are blanked. ERR_INVALID: *out is empty, and *why (appended)
 * names the line or the place and what is expected. *warnings: one per line; may be NULL. */
NODISCARD enum err auth_file_parse(struct buf *text, auth_file_read_keys *read, void *arg,
                                   struct auth_file *out, struct buf *why, struct buf *warnings);
/* The short form: one issuer of these @fields, which are taken over, and whose keys are those of
 * @key_bytes. */
NODISCARD enum err auth_file_make(struct issuer_fields *fields, struct slice key_bytes,
                                  struct auth_file *out, struct buf *why, struct buf *warnings);
void auth_file_reset(struct auth_file *file);
