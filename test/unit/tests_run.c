/* SPDX-License-Identifier: Apache-2.0 */
#include "test/unit/tests_run.h"

#include <errno.h>
#include <stdlib.h>

int tests_run_all(TCase *const *tests, int count)
{
    Suite *suite = suite_create(program_invocation_short_name);
    for (int i = 0; i < count; i++)
        suite_add_tcase(suite, tests[i]);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int tests_run(TCase *tests)
{
    return tests_run_all(&tests, 1);
}
