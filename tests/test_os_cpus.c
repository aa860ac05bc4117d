/* os_cpus: how many processors a process deserves, against a fake tree of control groups (H34). */
#include "testing.h"

#include <sched.h>
#include <sys/stat.h>

#include "os.h"

static char root[64];

static void make_root(void)
{
    (void)snprintf(root, sizeof(root), "/tmp/weft-cgroup-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -r '%s'", root);
    cr_assert_eq(system(command), 0);
}

/* Writes a file below the root, with the directories that it needs. */
static void put(const char *path, const char *text)
{
    char full[512];
    (void)snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        (void)mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    cr_assert_not_null(file, "%s", full);
    (void)fputs(text, file);
    (void)fclose(file);
}

static unsigned quota(const char *cgroup)
{
    char file[128];
    put("self", cgroup);
    (void)snprintf(file, sizeof(file), "%s/self", root);
    return os_cpu_quota(file, root);
}

TestSuite(cgroup, .init = make_root, .fini = remove_root);

Test(cgroup, no_files_are_no_quota_H34)
{
    cr_assert_eq(quota("0::/a/b\n"), 0);
    cr_assert_eq(os_cpu_quota("/nonexistent/cgroup", root), 0);
}

Test(cgroup, v2_quota_is_rounded_up_H34)
{
    static const struct {
        const char *text;
        unsigned cpus;
    } cases[] = {
        { "max 100000\n", 0 },  { "200000 100000\n", 2 }, { "200001 100000\n", 3 }, { "150000 100000\n", 2 },
        { "1000 100000\n", 1 }, { "100000 100000\n", 1 }, { "50000 25000\n", 2 },   { "6400000 100000\n", 64 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put("a/cpu.max", cases[i].text);
        cr_assert_eq(quota("0::/a\n"), cases[i].cpus, "%s", cases[i].text);
    }
}

Test(cgroup, v2_parents_quota_binds_H34)
{
    put("a/cpu.max", "100000 100000\n");
    put("a/b/cpu.max", "max 100000\n");
    put("a/b/c/cpu.max", "800000 100000\n");
    put("cpu.max", "400000 100000\n");
    cr_assert_eq(quota("0::/a/b/c\n"), 1, "the grandparent's");
    cr_assert_eq(quota("0::/a/b/c/not/here\n"), 1, "up from what does not exist");
    cr_assert_eq(quota("0::/elsewhere\n"), 4, "the root's, as in a container");
    cr_assert_eq(quota("0::/\n"), 4);
}

Test(cgroup, v2_group_outside_of_the_namespace_is_not_searched_H34)
{
    char file[128], mount[128];
    put("outside/cpu.max", "100000 100000\n");
    put("cpu.max", "100000 100000\n");
    put("mount/cpu.max", "400000 100000\n");
    put("self", "0::/../outside\n");
    (void)snprintf(file, sizeof(file), "%s/self", root);
    (void)snprintf(mount, sizeof(mount), "%s/mount", root);
    cr_assert_eq(os_cpu_quota(file, mount), 4, "the root's: it is all that we may see");
}

Test(cgroup, v1_quota_of_the_cpu_controller_H34)
{
    static const char *const self = "11:memory:/m\n4:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/\n";
    put("cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n");
    put("cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    cr_assert_eq(quota(self), 0);
    put("cpu,cpuacct/a/b/cpu.cfs_quota_us", "250000\n");
    cr_assert_eq(quota(self), 3);
    put("cpu,cpuacct/a/cpu.cfs_quota_us", "20000\n");
    put("cpu,cpuacct/a/cpu.cfs_period_us", "10000\n");
    cr_assert_eq(quota(self), 2, "the parent's");
}

Test(cgroup, v1_controller_is_found_whatever_stands_beside_it_H34)
{
    put("cpu/a/cpu.cfs_quota_us", "300000\n");
    put("cpu/a/cpu.cfs_period_us", "100000\n");
    cr_assert_eq(quota("1:cpu:/a\n"), 3);
    cr_assert_eq(quota("4:cpuacct,cpu:/a\n"), 3);
    cr_assert_eq(quota("4:cpuset:/a\n5:cpuacct:/a\n"), 0, "names that begin alike");
}

Test(cgroup, both_versions_mounted_give_the_smaller_H34)
{
    put("cpu/a/cpu.cfs_quota_us", "300000\n");
    put("cpu/a/cpu.cfs_period_us", "100000\n");
    put("unified/b/cpu.max", "200000 100000\n");
    cr_assert_eq(quota("1:cpu:/a\n0::/b\n"), 2);
    cr_assert_eq(quota("1:cpu:/a\n"), 3);
}

Test(cgroup, malformed_files_are_no_quota_H34)
{
    static const char *const texts[] = { "",
                                         "\n",
                                         "max",
                                         "max\n",
                                         "200000\n",
                                         "200000 0\n",
                                         "0 100000\n",
                                         "-5 100000\n",
                                         "200000 -1\n",
                                         "x 100000\n",
                                         "200000 x\n",
                                         "99999999999999999999999 1\n",
                                         "9223372036854775807 1\n",
                                         "200000 99999999999999999999999\n" };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        put("a/cpu.max", texts[i]);
        cr_assert_eq(quota("0::/a\n"), 0, "\"%s\"", texts[i]);
    }
    put("cpu/a/cpu.cfs_quota_us", "300000\n");
    cr_assert_eq(quota("1:cpu:/a\n"), 0, "no period");
    put("a/cpu.max", "100000 100000\n");
    static const char *const selves[] = { "", "\n", "0\n", "0:\n", "0::\n", "0::a\n", ":::", "0", "x::/a\n", "10::/a\n" };
    for (size_t i = 0; i < sizeof(selves) / sizeof(selves[0]); i++) {
        cr_assert_eq(quota(selves[i]), 0, "\"%s\"", selves[i]);
    }
    cr_assert_eq(quota("garbage\n0::/a"), 1, "and a good line is still found, with or without a newline");
    static char line[20000];
    memset(line, 'a', sizeof(line) - 1);
    memcpy(line, "0::/", 4);
    cr_assert_eq(quota(line), 0, "a path longer than any path");
}

Test(cpus, count_follows_the_affinity_mask_H34)
{
    unsigned all = os_cpu_count();
    cpu_set_t before, one;
    cr_assert_geq(all, 1);
    cr_assert_eq(sched_getaffinity(0, sizeof(before), &before), 0);
    cr_assert_leq(all, (unsigned)CPU_COUNT(&before));
    size_t first = 0;
    while (!CPU_ISSET(first, &before)) {
        first++;
    }
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    cr_assert_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    cr_assert_eq(os_cpu_count(), 1);
    cr_assert_eq(sched_setaffinity(0, sizeof(before), &before), 0);
    cr_assert_eq(os_cpu_count(), all);
}
