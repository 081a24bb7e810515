/* What this process may use of the machine: Linux affinity, /proc/meminfo, control groups. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */

#include "base/system.h"

#include "base/cgroup.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

int hs_system_cpus(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    else
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const int quota = hs_cgroup_cpus("");
    if (quota > 0 && quota < n)
        n = quota;
    return n > 0 ? n : 1;
}

uint64_t hs_system_memory_bytes(void)
{
    uint64_t available = hs_cgroup_memory_bytes(""), kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1 && kib * 1024 < available)
            available = kib * 1024;
    }
    if (file)
        (void)fclose(file);
    return available;
}
