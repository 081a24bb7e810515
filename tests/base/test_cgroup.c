/* Control groups as kernels, containers and job schedulers show them, each a small tree of files. */
#include "base/cgroup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/hstu_cgroup_XXXXXX";

/* What put made, to be removed in the opposite order. */
static char *made[64];
static size_t n_made;

static void remember(const char *path)
{
    assert_true(n_made < sizeof made / sizeof *made);
    made[n_made++] = strcpy(malloc(strlen(path) + 1), path);
}

static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) == 0)
            remember(path);
        *slash = '/';
    }
    if (access(path, F_OK) != 0)
        remember(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/hstu_cgroup_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    while (n_made) {
        remove(made[--n_made]);
        free(made[n_made]);
    }
    return rmdir(root);
}

static void nothing_limits(void **state)
{
    (void)state;
    assert_int_equal(hs_cgroup_cpus(root), 0);
    assert_true(hs_cgroup_memory_bytes(root) == UINT64_MAX);
    /* The root group of a machine has no limit files. */
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.stat", "inactive_file 5\n");
    assert_int_equal(hs_cgroup_cpus(root), 0);
    assert_true(hs_cgroup_memory_bytes(root) == UINT64_MAX);
}

static void a_container_sees_its_own_root(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "250000 100000\n");
    put("/sys/fs/cgroup/memory.max", "1000000\n");
    put("/sys/fs/cgroup/memory.current", "900000\n");
    put("/sys/fs/cgroup/memory.stat", "anon 100000\ninactive_file 300000\nactive_file 400000\nslab 9\n");
    assert_int_equal(hs_cgroup_cpus(root), 3);
    assert_true(hs_cgroup_memory_bytes(root) == 800000);
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/memory.max", "max\n");
    assert_int_equal(hs_cgroup_cpus(root), 0);
    assert_true(hs_cgroup_memory_bytes(root) == UINT64_MAX);
}

/* A job on a bare machine: the limits stand in the groups above the process' own. */
static void every_level_counts(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/system.slice/job_7/step_0\n");
    put("/sys/fs/cgroup/system.slice/cpu.max", "1600000 100000\n");
    put("/sys/fs/cgroup/system.slice/job_7/cpu.max", "400000 100000\n");
    put("/sys/fs/cgroup/system.slice/job_7/memory.max", "5000\n");
    put("/sys/fs/cgroup/system.slice/job_7/memory.current", "1000\n");
    put("/sys/fs/cgroup/system.slice/job_7/step_0/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/system.slice/job_7/step_0/memory.max", "9000\n");
    put("/sys/fs/cgroup/system.slice/job_7/step_0/memory.current", "1000\n");
    put("/sys/fs/cgroup/system.slice/job_8/memory.max", "1\n"); /* another job */
    put("/sys/fs/cgroup/system.slice/job_8/memory.current", "1\n");
    assert_int_equal(hs_cgroup_cpus(root), 4);
    assert_true(hs_cgroup_memory_bytes(root) == 4000);
    /* The group's own limit may be the smaller one; more used than allowed leaves nothing. */
    put("/sys/fs/cgroup/system.slice/job_7/step_0/memory.max", "500\n");
    assert_true(hs_cgroup_memory_bytes(root) == 0);
    /* Outside of what the process sees: what stands at the mount holds. */
    put("/proc/self/cgroup", "0::/../system.slice/job_7\n");
    assert_int_equal(hs_cgroup_cpus(root), 0);
}

/* Version 1 in a container: /proc names the host's group, the mount is the group itself. */
static void version_1(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "12:pids:/docker/ab\n4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n0::/\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "8000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "7000\n");
    put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 2000\ntotal_active_file 500\n");
    assert_int_equal(hs_cgroup_cpus(root), 2);
    assert_true(hs_cgroup_memory_bytes(root) == 3500);
    /* On a machine: the group's folder exists, and the root's quota is none. */
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/docker/ab/cpu.cfs_quota_us", "600000\n");
    put("/sys/fs/cgroup/cpu/docker/ab/cpu.cfs_period_us", "100000\n");
    assert_int_equal(hs_cgroup_cpus(root), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_limits, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_container_sees_its_own_root, make_root, remove_root),
        cmocka_unit_test_setup_teardown(every_level_counts, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_1, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
