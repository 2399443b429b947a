/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration for people: --help, the table of the docs, a file with everything in it. */
#pragma once
#include "common/buf.h"
#include "relay/config/config_settings.h"

void config_print_help(struct buf *b);
void config_print_docs(struct buf *b); /* a Markdown table */
/* JSON with a // comment for each option; passwords are masked. */
void config_print_file(struct buf *b, const struct config *c);
/* A URL with *** for its password. */
void config_print_url(struct buf *b, const char *url);
