/* SPDX-License-Identifier: Apache-2.0 */
/* The end of every unit test program's main(). */
#pragma once
#include <check.h>

/* Runs them, as CK_FORK and its like in the environment say, and frees them. The result is the
 * program's exit status. */
int tests_run(TCase *tests);
/* The same for @count of them, each with a fixture of its own. */
int tests_run_all(TCase *const *tests, int count);
