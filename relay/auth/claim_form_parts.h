/* SPDX-License-Identifier: Apache-2.0 */
/* The claims of other servers, each in a file of its own: claim_form.c only. */
#pragma once
#include "relay/auth/draft.h"

void claim_form_centrifugo_put(const cJSON *claims, struct draft *d);
void claim_form_mercure_put(const cJSON *claims, struct draft *d);
