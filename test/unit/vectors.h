/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors of the contract, read from $TEST_VECTORS or test/vectors. */
#pragma once
#include "common/json.h"

/* Parses a file of vectors; aborts where that fails. cJSON_Delete() the result. */
cJSON *vectors_load(const char *file);
/* The text of a string (absent item: SLICE_NONE), NUL included: release .ptr with free(). */
struct slice vectors_text(const cJSON *item);
