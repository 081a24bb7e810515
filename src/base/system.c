/* What this process may use of the machine: Linux affinity, /proc/meminfo, control groups version 2 and 1. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */

#include "base/system.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const bool ok = fgets(line, (int)size, file) != NULL;
    (void)fclose(file);
    return ok;
}

static bool read_u64(const char *path, uint64_t *out)
{
    char line[64];
    return read_line(path, line, sizeof line) && sscanf(line, "%" SCNu64, out) == 1;
}

/* The quota as a whole number of processors, rounded up; 0 when there is none. */
static int quota_cpus(void)
{
    char line[64];
    double quota = 0, period = 0;
    if (read_line("/sys/fs/cgroup/cpu.max", line, sizeof line)) {
        if (sscanf(line, "%lf %lf", &quota, &period) != 2)
            return 0; /* "max": no quota */
    } else {
        uint64_t q = 0, p = 0;
        if (!read_u64("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &q) || q > INT32_MAX ||
            !read_u64("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &p))
            return 0;
        quota = (double)q;
        period = (double)p;
    }
    if (quota <= 0 || period <= 0 || quota / period > 1e6)
        return 0;
    const int whole = (int)(quota / period);
    return (double)whole < quota / period ? whole + 1 : whole;
}

int hs_system_cpus(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    else
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const int quota = quota_cpus();
    if (quota > 0 && quota < n)
        n = quota;
    return n > 0 ? n : 1;
}

uint64_t hs_system_memory_bytes(void)
{
    uint64_t available = UINT64_MAX;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file) {
        char line[128];
        uint64_t kib = 0;
        while (fgets(line, sizeof line, file)) {
            if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
                available = kib * 1024;
        }
        (void)fclose(file);
    }
    static const char *const groups[2][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    for (int i = 0; i < 2; i++) {
        uint64_t limit = 0, used = 0;
        if (read_u64(groups[i][0], &limit) && read_u64(groups[i][1], &used)) {
            const uint64_t headroom = limit > used ? limit - used : 0;
            available = headroom < available ? headroom : available;
        }
    }
    return available;
}
