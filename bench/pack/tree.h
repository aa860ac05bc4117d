/* The files of a directory tree: every regular file below DIR, in byte order of its relative path (as LC_ALL=C sort).
 *
 * Symbolic links are not followed, except DIR itself. Built by one thread; read-only afterwards, so any thread may read it. */
#ifndef WEFT_PACK_TREE_H
#define WEFT_PACK_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tree_file {
    char *path; /* relative to the root */
};

struct tree {
    const char *root;        /* DIR as the user wrote it, for messages */
    int root_fd;             /* paths are opened relative to this */
    struct tree_file *files; /* n of them, in path order */
    size_t n, capacity;
    size_t n_skipped;     /* directories and entries that could not be read; each was named on stderr */
    uint64_t total_bytes; /* when the tree was read, if sizes were asked for; files may have changed since */
};

struct tree_options {
    bool sizes;   /* fill in total_bytes: a system call per file */
    size_t every; /* keep only every N-th file; at least 1 */
    bool exclude; /* leave out the file below: the archive itself, when it lies inside DIR */
    dev_t exclude_device;
    ino_t exclude_inode;
};

/* Reads the tree. 0, or a negative errno value: DIR cannot be read, or no memory. What lies below DIR and cannot be read is
 * named on stderr and counted in `n_skipped`. */
int tree_read(struct tree *tree, const char *root, const struct tree_options *options);
void tree_fini(struct tree *tree);
/* "PROGRAM: ROOT/PATH: error: skipped" on stderr; `rc` is a negative errno value. Any thread. */
void tree_name_skipped(const struct tree *tree, const char *path, int rc);

#ifdef __cplusplus
}
#endif
#endif
