/* SPDX-License-Identifier: Apache-2.0 */
/* Where an issuer's tokens say what they grant: at JSON Pointers, or as Centrifugo or Mercure have
 * it. Immutable. No I/O. docs/protocol.md, 14. */
#pragma once
#include "relay/auth/draft.h"

struct claim_form;

/* @value: the `claims` of an issuer in the auth file; NULL: as usual. ERR_INVALID: *why names the
 * place. */
NODISCARD enum err claim_form_new(const struct place *at, const cJSON *value,
                                  struct claim_form **out, struct buf *why);
void claim_form_free(struct claim_form *form); /* NULL is fine */

/* Whether @claims say what they grant; if not, rules apply. The namespace alone says nothing. */
bool claim_form_is_used(const struct claim_form *form, const cJSON *claims);
void claim_form_put(const struct claim_form *form, const cJSON *claims, struct draft *d);
/* The claim that names the namespace; NULL: there is none. */
const cJSON *claim_form_ns(const struct claim_form *form, const cJSON *claims);
/* Where that is looked for; NULL: nowhere. Borrowed. */
const char *claim_form_ns_pointer(const struct claim_form *form);
