/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of client.c share. */
#pragma once
#include <check.h>
#include "common/buf.h"
#include "relay/core/client.h"

/* A stream of topic `t`. @type: the only one wanted, NULL for all. */
void client_start(struct client *c, const char *type);
void client_start_as(struct client *c, const char *type, const struct client_form *form);
struct event *event_make(uint64_t id, const char *type, const char *data);
/* Sends everything, up to @step bytes at a time, to *out. */
void client_drain(struct client *c, struct buf *out, size_t step);
