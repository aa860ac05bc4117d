/* How many processors this process may use (H34): the affinity mask, and the CPU quota of every control group above it.
 *
 * /proc/self/cgroup has lines "id:controllers:path"; version 2 is the line with id 0 and no controllers. The quota of version 2 is
 * in cpu.max ("max 100000" or "50000 100000": quota and period), of version 1 in cpu.cfs_quota_us and cpu.cfs_period_us. A parent's
 * quota binds its children, so each path is walked up to the mount's root and the smallest counts. Inside a container the path may
 * be the host's and lead nowhere here; the walk then still ends at the root, which is the container's own group.
 *
 * Whatever cannot be read or parsed is no quota: a broken file must not stop a program from starting. */
#include "os.h"

#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOUNT_ROOT "/sys/fs/cgroup"
#define MOST_CPUS (1 << 20)

/* Reads the file `name` in `directory` as text; false when there is none. */
static bool read_small(const char *directory, const char *name, char *text, size_t room)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof(path)) {
        return false;
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    size_t got = fread(text, 1, room - 1, file);
    (void)fclose(file);
    text[got] = '\0';
    return got > 0;
}

/* A positive number at *text, which moves past it; 0 if there is none. */
static int64_t parse_positive(char **text)
{
    char *end;
    errno = 0;
    long long value = strtoll(*text, &end, 10);
    if (end == *text || errno != 0 || value <= 0) {
        return 0;
    }
    *text = end;
    return value;
}

/* CPUs, rounded up; 0 for no quota. */
static unsigned cpus_of(int64_t quota, int64_t period)
{
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    int64_t cpus = quota / period + (quota % period != 0);
    return cpus < UINT_MAX ? (unsigned)cpus : 0;
}

static unsigned quota_v2(const char *directory)
{
    char text[64];
    if (!read_small(directory, "cpu.max", text, sizeof(text))) {
        return 0;
    }
    char *at = text;
    int64_t quota = parse_positive(&at); /* "max" gives 0 */
    return cpus_of(quota, parse_positive(&at));
}

static unsigned quota_v1(const char *directory)
{
    char quota[64], period[64];
    if (!read_small(directory, "cpu.cfs_quota_us", quota, sizeof(quota)) ||
        !read_small(directory, "cpu.cfs_period_us", period, sizeof(period))) {
        return 0;
    }
    char *quota_at = quota, *period_at = period;
    return cpus_of(parse_positive(&quota_at), parse_positive(&period_at)); /* without a quota it is -1 */
}

static unsigned smaller(unsigned a, unsigned b)
{
    if (a == 0 || b == 0) {
        return a + b; /* 0 is no quota */
    }
    return a < b ? a : b;
}

/* The smallest quota from mount/path up to mount itself. */
static unsigned walk_up(const char *mount, const char *path, unsigned (*quota)(const char *directory))
{
    char directory[PATH_MAX];
    /* A group outside of our namespace shows as "/..": all that we can see of it is the root. */
    const char *below = strstr(path, "/..") == NULL ? path : "";
    size_t root_length = strlen(mount);
    int length = snprintf(directory, sizeof(directory), "%s%s", mount, below);
    if (length < 0 || (size_t)length >= sizeof(directory)) {
        return 0;
    }
    unsigned found = 0;
    for (;;) {
        found = smaller(found, quota(directory));
        char *slash = strrchr(directory, '/');
        if (slash == NULL || slash < directory + root_length) {
            return found;
        }
        *slash = '\0';
    }
}

static bool has_cpu_controller(const char *controllers)
{
    for (const char *at = controllers; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, "cpu", 3) == 0 && (at[3] == ',' || at[3] == '\0')) {
            return true;
        }
    }
    return false;
}

static unsigned walk_mount(const char *mount_root, const char *name, const char *path, unsigned (*quota)(const char *directory))
{
    char mount[PATH_MAX];
    int length = snprintf(mount, sizeof(mount), "%s/%s", mount_root, name);
    return length < 0 || (size_t)length >= sizeof(mount) ? 0 : walk_up(mount, path, quota);
}

static unsigned quota_of_line(char *line, const char *mount_root)
{
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL) {
        return 0;
    }
    *controllers++ = '\0';
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (path[0] != '/') {
        return 0;
    }
    if (strcmp(line, "0") == 0 && controllers[0] == '\0') {
        unsigned quota = walk_up(mount_root, path, quota_v2);
        return smaller(quota, walk_mount(mount_root, "unified", path, quota_v2)); /* where both versions are mounted */
    }
    if (has_cpu_controller(controllers)) {
        unsigned quota = walk_mount(mount_root, controllers, path, quota_v1); /* "cpu,cpuacct"; the other name is a link */
        return smaller(quota, walk_mount(mount_root, "cpu", path, quota_v1));
    }
    return 0;
}

unsigned os_cpu_quota(const char *cgroup_file, const char *mount_root)
{
    FILE *file = fopen(cgroup_file, "re");
    if (file == NULL) {
        return 0;
    }
    unsigned found = 0;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        found = smaller(found, quota_of_line(line, mount_root));
    }
    free(line);
    (void)fclose(file);
    return found;
}

/* The kernel refuses a mask that is smaller than its own, which is how one learns the size. */
static unsigned affinity(void)
{
    for (int cpus = CPU_SETSIZE; cpus <= MOST_CPUS; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (set == NULL) {
            return 1;
        }
        size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        CPU_ZERO_S(bytes, set);
        bool whole = sched_getaffinity(0, bytes, set) == 0;
        int count = whole ? CPU_COUNT_S(bytes, set) : 0;
        bool larger = !whole && errno == EINVAL;
        CPU_FREE(set);
        if (!larger) {
            return count > 0 ? (unsigned)count : 1;
        }
    }
    return 1;
}

unsigned os_cpu_count(void) { return smaller(affinity(), os_cpu_quota("/proc/self/cgroup", MOUNT_ROOT)); }
