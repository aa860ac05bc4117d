/* One directory is read, closed and sorted before its subdirectories are visited, so one is open at a time, and no file is looked
 * at beyond its directory entry.
 *
 * A directory's name sorts with a slash behind it. That makes the order of the walk the byte order of the whole paths: what lies
 * in directory "a" begins with "a/", and must come after "a.h" ('.' < '/') and before "a0.h" ('/' < '0'). */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct entries {
    char **paths; /* relative to the root; a directory's ends in a slash */
    size_t n, capacity;
};

enum entry_kind { ENTRY_DIRECTORY, ENTRY_FILE, ENTRY_OTHER };

static int visit(struct tree *tree, const struct tree_options *options, const char *directory);

/* The array, with room for one more element; moved perhaps. NULL: no memory, and the array is as it was. */
static void *with_room(void *array, size_t n, size_t *capacity, size_t element_size)
{
    if (n < *capacity) {
        return array;
    }
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    void *grown = realloc(array, wanted * element_size);
    if (grown != NULL) {
        *capacity = wanted;
    }
    return grown;
}

void tree_name_skipped(const struct tree *tree, const char *path, int rc)
{
    const char *slash = tree->root[strlen(tree->root) - 1] == '/' ? "" : "/";
    fprintf(stderr, "%s: %s%s%s: %s: skipped\n", program_invocation_short_name, tree->root, slash, path, strerror(-rc));
}

/* `directory` is "" or ends in a slash. */
static char *join(const char *directory, const char *name, bool is_directory)
{
    size_t before = strlen(directory);
    size_t length = strlen(name);
    char *path = malloc(before + length + 2);
    if (path != NULL) {
        memcpy(path, directory, before);
        memcpy(path + before, name, length);
        path[before + length] = '/';
        path[before + length + (is_directory ? 1 : 0)] = '\0';
    }
    return path;
}

/* What an entry is; from its inode only where the file system or the options leave no other way. */
static int classify(struct tree *tree, const struct tree_options *options, int fd, const struct dirent *entry,
                    enum entry_kind *kind)
{
    bool may_be_excluded = options->exclude && entry->d_ino == options->exclude_inode;
    if (entry->d_type == DT_DIR) {
        *kind = ENTRY_DIRECTORY;
        return 0;
    }
    *kind = ENTRY_OTHER;
    if (entry->d_type == DT_REG && !options->sizes && !may_be_excluded) {
        *kind = ENTRY_FILE;
        return 0;
    }
    if (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN) {
        return 0;
    }
    struct stat stat;
    if (fstatat(fd, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        return -errno;
    }
    if (S_ISDIR(stat.st_mode)) {
        *kind = ENTRY_DIRECTORY;
    } else if (S_ISREG(stat.st_mode) && !(may_be_excluded && stat.st_dev == options->exclude_device)) {
        *kind = ENTRY_FILE;
        tree->total_bytes += (uint64_t)stat.st_size;
    }
    return 0;
}

/* An entry that cannot be looked at is skipped; only a lack of memory is an error. */
static int take(struct tree *tree, const struct tree_options *options, const char *directory, int fd, const struct dirent *entry,
                struct entries *entries)
{
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
        return 0;
    }
    enum entry_kind kind;
    int error = classify(tree, options, fd, entry, &kind);
    if (error == 0 && kind == ENTRY_OTHER) {
        return 0;
    }
    char *path = join(directory, entry->d_name, error == 0 && kind == ENTRY_DIRECTORY);
    if (path == NULL) {
        return -ENOMEM;
    }
    if (error != 0) {
        tree_name_skipped(tree, path, error);
        tree->n_skipped++;
        free(path);
        return 0;
    }
    char **paths = with_room(entries->paths, entries->n, &entries->capacity, sizeof *paths);
    if (paths == NULL) {
        free(path);
        return -ENOMEM;
    }
    entries->paths = paths;
    entries->paths[entries->n++] = path;
    return 0;
}

static int read_entries(struct tree *tree, const struct tree_options *options, const char *directory, struct entries *entries)
{
    const char *path = directory[0] != '\0' ? directory : ".";
    int fd = openat(tree->root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    if (stream == NULL) {
        int rc = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            rc = -errno; /* 0 at the end */
            break;
        }
        rc = take(tree, options, directory, fd, entry, entries);
    }
    closedir(stream);
    return rc;
}

static int by_bytes(const void *left, const void *right)
{
    const char *const *a = left;
    const char *const *b = right;
    return strcmp(*a, *b); /* compares unsigned bytes */
}

/* Takes over the path, or leaves it on failure. */
static int append_file(struct tree *tree, char *path)
{
    struct tree_file *files = with_room(tree->files, tree->n, &tree->capacity, sizeof *files);
    if (files == NULL) {
        return -ENOMEM;
    }
    tree->files = files;
    tree->files[tree->n++] = (struct tree_file){ .path = path };
    return 0;
}

static int visit_entries(struct tree *tree, const struct tree_options *options, struct entries *entries)
{
    for (size_t i = 0; i < entries->n; i++) {
        char *path = entries->paths[i];
        bool is_directory = path[strlen(path) - 1] == '/';
        int rc = is_directory ? visit(tree, options, path) : append_file(tree, path);
        if (rc != 0) {
            return rc;
        }
        if (!is_directory) {
            entries->paths[i] = NULL;
        }
    }
    return 0;
}

static int visit(struct tree *tree, const struct tree_options *options, const char *directory)
{
    struct entries entries = { .n = 0 };
    int rc = read_entries(tree, options, directory, &entries);
    if (rc != 0 && rc != -ENOMEM && directory[0] != '\0') {
        tree_name_skipped(tree, directory, rc);
        tree->n_skipped++;
        rc = 0; /* what was read of it before the error is kept */
    }
    if (rc == 0 && entries.n > 0) {
        qsort(entries.paths, entries.n, sizeof *entries.paths, by_bytes);
        rc = visit_entries(tree, options, &entries);
    }
    for (size_t i = 0; i < entries.n; i++) {
        free(entries.paths[i]);
    }
    free(entries.paths);
    return rc;
}

/* Keeps files 0, every, 2 × every, …: a sample with the shape of the whole. */
static void thin_out(struct tree *tree, size_t every)
{
    size_t kept = 0;
    for (size_t i = 0; i < tree->n; i++) {
        if (i % every == 0) {
            tree->files[kept++] = tree->files[i];
        } else {
            free(tree->files[i].path);
        }
    }
    tree->n = kept;
    tree->total_bytes /= every;
}

int tree_read(struct tree *tree, const char *root, const struct tree_options *options)
{
    *tree = (struct tree){ .root = root, .root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
    if (tree->root_fd < 0) {
        return -errno;
    }
    int rc = visit(tree, options, "");
    if (rc != 0) {
        tree_fini(tree);
        return rc;
    }
    if (options->every > 1) {
        thin_out(tree, options->every);
    }
    return 0;
}

void tree_fini(struct tree *tree)
{
    for (size_t i = 0; i < tree->n; i++) {
        free(tree->files[i].path);
    }
    free(tree->files);
    if (tree->root_fd >= 0) {
        close(tree->root_fd);
    }
    *tree = (struct tree){ .root_fd = -1 };
}
