/* SPDX-License-Identifier: Apache-2.0 */
/* The library for pages (relay/http/client.js, client.d.ts), embedded at build time. */
#pragma once
#include <stddef.h>

/* Each as it is, without its comments where it is code, and as gzip. */
extern const char relay_client_js[];
extern const size_t relay_client_js_len;
extern const char relay_client_js_gz[];
extern const size_t relay_client_js_gz_len;
extern const char relay_client_types[];
extern const size_t relay_client_types_len;
extern const char relay_client_types_gz[];
extern const size_t relay_client_types_gz_len;
/* Weak validators (RFC 9110, 8.8.1), of the plain text: plain and gzip are the same to whoever
 * reads them. */
extern const char relay_client_js_etag[];
extern const char relay_client_types_etag[];
