/* SPDX-License-Identifier: Apache-2.0 */
/* Names that nobody else in the world has. Any thread. */
#pragma once

enum { RANDOM_TOKEN_LEN = 32 };

/* 32 hexadecimal digits, and a NUL. */
void random_token(char out[static RANDOM_TOKEN_LEN + 1]);
