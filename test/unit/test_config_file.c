/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a configuration file is told by its line, or by the name of the key. */
#include <check.h>
#include "test/unit/config_rig.h"
#include "test/unit/tests_run.h"

/* The line that is named is the one to look at, whoever finds the fault: the scanner of words,
 * cJSON, or who takes comments out. */
START_TEST(test_a_broken_file_is_told_by_its_line)
{
    static const struct {
        const char *text;
        const char *line; /* there are fewer than ten */
    } broken[] = {
        /* grammar */
        {"{\n\"retry\": \"1s\",\n\"drain\" \"1s\"\n}", "line 3"},
        {"{\n\"retry\": \"1s\"\n\"drain\": \"1s\"\n}", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"drain\": soon,\n\"prefix\": \"a\"\n}\n\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\n}\n", "line 4"},
        {"{\n\"listen\": [\n\"a:1\",\n]\n}\n", "line 4"},
        {"{\n\"retry\": \"1s\"\n}\n\nmore\n", "line 5"},
        {"{\n\"queue\": {\n\"max_events\": 1,\n\"max_bytes\": }\n}\n", "line 4"},
        {"{\n\"retry\": \"1s\"\n", "line 2"},
        {"{'retry': 1}\n", "line 1"},
        /* words */
        {"{\n\"retry\": \"1s\",\n\"workers\": 01,\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"workers\": 1.,\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"prefix\": \"a\\x\",\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"prefix\": \"\\u12\",\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"prefix\": \"a,\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"prefix\": \"a\\\nb\",\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"prefix\": \"a", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"prefix\": \"\t\",\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\"prefix\": \"\xFF\",\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \"1s\",\n\x01\n\"drain\": \"1s\"\n}\n", "line 3"},
        {"{\n\"retry\": \xE2\x80\x9C"
         "1s\xE2\x80\x9D,\n\"drain\": \"1s\"\n}\n",
         "line 2"},
        /* what stands before: escapes, ends of lines, a byte order mark, comments */
        {"{\n\"prefix\": \"a\\n\\\"b\\\\\\u0000\\nc\",\n\"drain\" 1\n}\n", "line 3"},
        {"{\r\n\"retry\": \"1s\",\r\n\"workers\": 01\r\n}\r\n", "line 3"},
        {"\xEF\xBB\xBF{\n\"retry\": \"1s\",\n\"workers\": 01\n}\n", "line 3"},
        {"\xEF\xBB\xBF{\n\"retry\": \"1s\",\n\"workers\" 1\n}\n", "line 3"},
        {"// one\n/* two\nthree \"*/{\n\"retry\": \"1s\", // four \"\n\"workers\": 01\n}\n",
         "line 5"},
        {"{ // \"\r\n\"retry\": \"//1s\", /* */\r\n/*\r\n*/ \"drain\": /\r\n}\r\n", "line 4"},
        /* comments themselves */
        {"{\n\"retry\": \"1s\",\n/* not closed\n\"drain\": \"1s\"\n}\n", "without an end|line 3"},
        {"{\n\"retry\": \"1s\",\n/*/\n\"drain\": \"1s\"\n}\n", "without an end|line 3"},
        {"{\n\"retry\": \"1s\",\n\"drain\": \"1s\"\n} /", "line 4"},
        {"{\n\"prefix\": \"a,\n\"retry\": \"/*\", // \"\n}\n", "line 2"},
    };
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
        expect_file_error(broken[i].text, broken[i].line);
}
END_TEST

/* What is wrong with a key or a value has no line, but a name. */
START_TEST(test_a_wrong_key_or_value_is_told_by_its_name)
{
    static const char *const wrong[][2] = {
        {"{\n\"retri\": \"1s\"\n}", "unknown key \"retri\""},
        {"{\n\"queue\": {\n\"max\": 1\n}\n}", "unknown key \"queue.max\""},
        {"{\n\"retry\": \"1s\",\n\"retry\": \"2s\"\n}", "retry stands twice"},
        {"{\n\"queue.max_events\": 1,\n\"queue\": {\"max_events\": 2}\n}",
         "queue.max_events stands"},
        {"{\n\"retry\": [\n]\n}", "retry (from |expected a string"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect_file_error(wrong[i][0], wrong[i][1]);
}
END_TEST

START_TEST(test_a_file_with_too_many_values_is_told_as_that)
{
    struct buf text = {0};
    buf_puts(&text, "{\"listen\": [");
    for (size_t i = 0; i < 250001; i++)
        buf_puts(&text, "0,");
    buf_puts(&text, "0]}");
    buf_putc(&text, '\0');
    expect_file_error(text.ptr, "more values");
    buf_reset(&text);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("config_file");
    tcase_add_test(cases, test_a_broken_file_is_told_by_its_line);
    tcase_add_test(cases, test_a_wrong_key_or_value_is_told_by_its_name);
    tcase_add_test(cases, test_a_file_with_too_many_values_is_told_as_that);
    return tests_run(cases);
}
