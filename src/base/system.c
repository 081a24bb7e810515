/* What this process may use of the machine: Linux affinity, /proc/meminfo, control groups. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT, getrandom */

#include "base/system.h"

#include "base/cgroup.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
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

uint64_t hs_system_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) !=
        (ssize_t)sizeof seed) { /* a kernel that has none yet: the clock */
        struct timespec now = {0};
        (void)clock_gettime(CLOCK_REALTIME, &now);
        seed = ((uint64_t)now.tv_sec << 32) ^ ((uint64_t)now.tv_nsec << 20) ^ (uint64_t)getpid();
    }
    return seed;
}
