/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/core/topic_index.h"
#include "common/cache.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/names.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* All names, topics and patterns alike, are in one table: a topic never equals a pattern. Patterns
 * also hang in a tree of tokens. Its edges share one table, keyed by parent and token, because a
 * table in each node would cost 600 bytes. */

struct entry {
    void *owner;
    struct topic_sub *sub;
};

/* In both kinds of nodes the hash handle stands before the key, so that a look-up touches little.
 */
struct tree_node {
    struct tree_node *parent;
    struct tree_node *star;  /* the child for `*` */
    struct topic_node *here; /* the pattern that ends at this node */
    struct topic_node *rest; /* the pattern that ends with `>` behind this node */
    uint32_t children;       /* edges and star */
    uint32_t key_len;
    UT_hash_handle hh; /* in index->edges; the root and the stars are not */
    char key[];        /* parent's address, then the token */
};

struct topic_node {
    uint32_t count, cap;
    union {
        struct entry one; /* cap is 0: most names have one subscriber */
        struct entry *many;
    };
    struct tree_node *end; /* patterns: where it hangs */
    uint32_t name_len;
    UT_hash_handle hh; /* in index->names */
    char name[];
};

struct topic_index {
    struct topic_node *names;
    struct tree_node *edges;
    struct tree_node *root;
};

#define KEY_MAX (sizeof(struct tree_node *) + NAME_TOPIC_MAX)
#define TOKENS_MAX (NAME_TOPIC_MAX / 2 + 1)

enum {
    AHEAD = 4, /* owners that are fetched into the cache before it is their turn */
    ENTRIES_START = 4,
};

static size_t edge_key(char *key, const struct tree_node *parent, struct slice token)
{
    assert(token.len <= NAME_TOPIC_MAX);
    memcpy(key, &parent, sizeof parent);
    memcpy(key + sizeof parent, token.ptr, token.len);
    return sizeof parent + token.len;
}

static struct tree_node *tree_node_new(struct tree_node *parent, const char *key, size_t key_len)
{
    struct tree_node *node = mem_zero(1, sizeof *node + key_len);
    node->parent = parent;
    node->key_len = (uint32_t)key_len;
    if (key_len > 0)
        memcpy(node->key, key, key_len);
    if (parent != NULL)
        parent->children++;
    return node;
}

static struct tree_node *edge_find(const struct topic_index *index, const struct tree_node *parent,
                                   struct slice token)
{
    char key[KEY_MAX];
    struct tree_node *node;
    size_t len = edge_key(key, parent, token);
    HASH_FIND(hh, index->edges, key, len, node);
    return node;
}

static struct tree_node *child_get(struct topic_index *index, struct tree_node *parent,
                                   struct slice token)
{
    if (slice_is(token, "*")) {
        if (parent->star == NULL)
            parent->star = tree_node_new(parent, NULL, 0);
        return parent->star;
    }
    struct tree_node *node = edge_find(index, parent, token);
    if (node == NULL) {
        char key[KEY_MAX];
        size_t len = edge_key(key, parent, token);
        node = tree_node_new(parent, key, len);
        HASH_ADD_KEYPTR(hh, index->edges, node->key, node->key_len, node);
    }
    return node;
}

/* Frees @node and those above it that lead nowhere any more. */
static void tree_prune(struct topic_index *index, struct tree_node *node)
{
    while (node->parent != NULL && node->children == 0 && node->here == NULL &&
           node->rest == NULL) {
        struct tree_node *parent = node->parent;
        if (parent->star == node)
            parent->star = NULL;
        else
            HASH_DELETE(hh, index->edges, node);
        parent->children--;
        free(node);
        node = parent;
    }
}

static size_t tokens_split(struct slice name, struct slice *tokens)
{
    size_t count = 0;
    while (name.ptr) {
        assert(count < TOKENS_MAX);
        tokens[count++] = slice_cut(&name, '.');
    }
    return count;
}

static void pattern_hang(struct topic_index *index, struct topic_node *node)
{
    struct slice tokens[TOKENS_MAX];
    size_t count = tokens_split((struct slice){node->name, node->name_len}, tokens);
    bool rest = slice_is(tokens[count - 1], ">");
    struct tree_node *end = index->root;
    for (size_t i = 0; i < count - rest; i++)
        end = child_get(index, end, tokens[i]);
    *(rest ? &end->rest : &end->here) = node;
    node->end = end;
}

static void pattern_unhang(struct topic_index *index, struct topic_node *node)
{
    struct tree_node *end = node->end;
    if (end->rest == node)
        end->rest = NULL;
    else
        end->here = NULL;
    tree_prune(index, end);
}

struct topic_index *topic_index_new(void)
{
    struct topic_index *index = mem_zero(1, sizeof *index);
    index->root = tree_node_new(NULL, NULL, 0);
    return index;
}

void topic_index_free(struct topic_index *index)
{
    if (index == NULL)
        return;
    assert(index->names == NULL && index->edges == NULL);
    free(index->root);
    free(index);
}

static struct topic_node *name_get(struct topic_index *index, struct slice name)
{
    struct topic_node *node;
    HASH_FIND(hh, index->names, name.ptr, name.len, node);
    if (node != NULL)
        return node;
    node = mem_zero(1, sizeof *node + name.len);
    node->name_len = (uint32_t)name.len;
    memcpy(node->name, name.ptr, name.len);
    HASH_ADD_KEYPTR(hh, index->names, node->name, node->name_len, node);
    if (name_is_pattern(name))
        pattern_hang(index, node);
    return node;
}

static struct entry *entries_of(struct topic_node *node)
{
    return node->cap > 0 ? node->many : &node->one;
}

/* @cap: 0 for one entry, else more than that. */
static void entries_resize(struct topic_node *node, uint32_t cap)
{
    struct entry first = entries_of(node)[0];
    struct entry *many = node->cap > 0 ? node->many : NULL;
    if (cap > 0) {
        node->many = mem_resize(many, cap * sizeof *many);
        node->many[0] = first;
    } else {
        free(many);
        node->one = first;
    }
    node->cap = cap;
}

bool topic_index_add(struct topic_index *index, struct slice name, struct topic_sub *sub,
                     void *owner)
{
    struct topic_node *node = name_get(index, name);
    if (node->count > 0 && node->count >= node->cap)
        entries_resize(node, node->cap > 0 ? 2 * node->cap : ENTRIES_START);
    *sub = (struct topic_sub){.owner = owner, .node = node, .slot = node->count};
    entries_of(node)[node->count++] = (struct entry){owner, sub};
    return node->count == 1;
}

bool topic_index_remove(struct topic_index *index, struct topic_sub *sub)
{
    struct topic_node *node = sub->node;
    struct entry *entries = entries_of(node);
    assert(sub->slot < node->count && entries[sub->slot].sub == sub);
    struct entry last = entries[--node->count];
    entries[sub->slot] = last;
    last.sub->slot = sub->slot;
    sub->node = NULL;
    if (node->count > 0) {
        if (node->count == 1 && node->cap > 0)
            entries_resize(node, 0);
        else if (node->count < node->cap / 4)
            entries_resize(node, node->cap / 2);
        return false;
    }
    if (node->end != NULL)
        pattern_unhang(index, node);
    HASH_DELETE(hh, index->names, node);
    free(node);
    return true;
}

struct slice topic_sub_name(const struct topic_sub *sub)
{
    return (struct slice){sub->node->name, sub->node->name_len};
}

/* One topic on its way down the tree. */
struct walk {
    const struct topic_index *index;
    struct slice tokens[TOKENS_MAX];
    size_t count;
    void (*hit)(void *owner, void *arg);
    void *arg;
};

static void node_hit(const struct walk *w, struct topic_node *node)
{
    if (node == NULL)
        return;
    const struct entry *entries = entries_of(node);
    for (uint32_t i = 0; i < node->count; i++) {
        if (i + AHEAD < node->count)
            cache_prefetch(entries[i + AHEAD].owner);
        w->hit(entries[i].owner, w->arg);
    }
}

/* As deep as the topic has tokens, and never wider than there are patterns. */
static void walk_down(const struct walk *w, const struct tree_node *node, size_t depth)
{
    if (depth == w->count) {
        node_hit(w, node->here);
        return;
    }
    node_hit(w, node->rest);
    if (node->star != NULL)
        walk_down(w, node->star, depth + 1);
    if (node->children > (node->star != NULL)) {
        const struct tree_node *child = edge_find(w->index, node, w->tokens[depth]);
        if (child != NULL)
            walk_down(w, child, depth + 1);
    }
}

void topic_index_match(struct topic_index *index, struct slice topic,
                       void (*hit)(void *owner, void *arg), void *arg)
{
    struct walk w;
    struct topic_node *exact;
    w.index = index;
    w.hit = hit;
    w.arg = arg;
    HASH_FIND(hh, index->names, topic.ptr, topic.len, exact);
    node_hit(&w, exact);
    if (index->root->children == 0 && index->root->rest == NULL)
        return;
    w.count = tokens_split(topic, w.tokens);
    walk_down(&w, index->root, 0);
}

size_t topic_index_names(const struct topic_index *index)
{
    return HASH_COUNT(index->names);
}

void topic_index_each(const struct topic_index *index,
                      void (*each)(struct slice name, size_t subscribers, void *arg), void *arg)
{
    for (const struct topic_node *node = index->names; node != NULL; node = node->hh.next)
        each((struct slice){node->name, node->name_len}, node->count, arg);
}
