/* SPDX-License-Identifier: Apache-2.0 */
/* A grant while it is put together from claims and rules, and the reasons for what is in it and
 * what is not, where somebody asks. No I/O; one thread. */
#pragma once
#include "relay/auth/place.h"
#include "common/stencil.h"
#include "relay/core/grant.h"

enum { DRAFT_PATTERNS_MAX = 1024 }; /* in each list */

enum draft_list { DRAFT_SUBSCRIBE, DRAFT_PUBLISH, DRAFT_TOPICS, DRAFT_LISTS };

/* Zero-initialise it. */
struct draft {
    struct grant_fields fields;
    struct buf *trail;    /* borrowed; lines for a person; NULL: nobody asks */
    struct buf unsayable; /* the first thing in the claims that can be no pattern: for the log */
};

void draft_reset(struct draft *d);
extern const char *const draft_list_names[DRAFT_LISTS]; /* "subscribe", … */

/* @from: where it is said, for the trail: rules[0].subscribe[1], or a pointer into the claims. */
void draft_add_pattern(struct draft *d, enum draft_list list, struct slice valid_pattern,
                       const struct place *from);
/* Filled from @claims. */
void draft_add_stencil(struct draft *d, enum draft_list list, const struct stencil *stencil,
                       const cJSON *claims, const struct place *from);
void draft_add_match(struct draft *d, struct slice name, struct slice value,
                     const struct place *from);
void draft_set_admin(struct draft *d, const struct place *from);
/* What @text says, which is in the claims, is nothing that can be granted. */
void draft_refuse(struct draft *d, struct slice text, const struct place *from, const char *reason);
/* A line of the trail: "label  text  (from: note)". @from, @note: NULL: none. */
void draft_tell(struct draft *d, const char *label, struct slice text, const struct place *from,
                const char *note);

/* The values at a place, {name} or {/pointer}, of @claims: a stencil_look. */
const char *draft_look(const void *claims, struct slice place, struct strings *values);
