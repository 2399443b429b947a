/* SPDX-License-Identifier: Apache-2.0 */
/* The page served at / (relay/http/page.html), embedded at build time. */
#pragma once
#include <stddef.h>

extern const char relay_page[]; /* NUL-terminated */
extern const size_t relay_page_len;
/* Its Content-Security-Policy, which names its script and style by hash. */
extern const char relay_page_csp[];
