/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what people write in the auth file, strictly: every error names its place in the file and
 * what is expected there. No I/O. */
#pragma once
#include "common/json.h"
#include "common/strings.h"

/* Where something stands: issuers[0].algs. On the stack of whoever reads it. */
struct place {
    const struct place *above; /* NULL: the whole file */
    const char *name;          /* NULL: the element of a list */
    size_t index;
};

#define PLACE_FILE ((struct place){0})
struct place place_member(const struct place *above, const char *name);
struct place place_element(const struct place *above, size_t index);
void place_put(struct buf *b, const struct place *at); /* "the file" for the whole */
/* Appends a stranger's text for a terminal or a log: one line, at most 100 bytes. */
void place_put_shown(struct buf *b, struct slice text);

/* "issuers[0].algs: expected …". Always ERR_INVALID. */
NODISCARD enum err place_refuse(const struct place *at, struct buf *why, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Whether @value is an object with members of these names only (NULL ends them; NULL: any), each
 * once. */
NODISCARD enum err place_check_object(const struct place *at, const cJSON *value,
                                      const char *const *known, struct buf *why);
const cJSON *place_find(const cJSON *object, const char *name); /* NULL: there is none */

/* Of @object's member; where there is none, *out stays as it is. */
NODISCARD enum err place_read_text(const struct place *at, const cJSON *object, const char *name,
                                   char **out, struct buf *why);
NODISCARD enum err place_read_bool(const struct place *at, const cJSON *object, const char *name,
                                   bool *out, struct buf *why);
/* A list of texts (one at least), or one text. NULL: @item is fine; else what is expected. */
typedef const char *place_check(const char *item);
NODISCARD enum err place_read_texts(const struct place *at, const cJSON *object, const char *name,
                                    place_check *check, struct strings *out, struct buf *why);
/* Calls @read for each element of @list, of which there may be @max; or of the list that @object's
 * member is. */
typedef enum err place_read(void *arg, const struct place *at, const cJSON *value, struct buf *why);
NODISCARD enum err place_read_array(const struct place *at, const cJSON *list, size_t max,
                                    place_read *read, void *arg, struct buf *why);
NODISCARD enum err place_read_list(const struct place *at, const cJSON *object, const char *name,
                                   size_t max, place_read *read, void *arg, struct buf *why);
