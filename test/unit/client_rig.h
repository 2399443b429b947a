/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of client.c share. */
#pragma once
#include <check.h>
#include "common/buf.h"
#include "relay/core/client.h"

/* A stream of topic `t`. @type: the only one wanted, NULL for all. */
void client_start(struct client *c, const char *type);
void client_start_as(struct client *c, const char *type, const struct outbox_form *form);
/* With a grant of its own, or none (NULL); a reference is taken. */
void client_start_with(struct client *c, const char *type, struct grant *grant);
struct event *event_make(uint64_t id, const char *type, const char *data);
/* @match: a JSON object; NULL: for everybody. What cannot be read is for nobody. */
struct event *event_make_for(uint64_t id, const char *type, const char *data, const char *match);
/* Sends everything, up to @step bytes at a time, to *out. */
void client_drain(struct client *c, struct buf *out, size_t step);
