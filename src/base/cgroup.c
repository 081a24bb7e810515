/* Limits of control groups. */
#include "base/cgroup.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

/* A controller's place, and its files. */
typedef struct controller {
    const char *name; /* in /proc/self/cgroup; "" is version 2 */
    const char *mount;
    const char *limit, *used;      /* memory */
    const char *inactive, *active; /* lines of memory.stat: file pages, those of the groups below included */
    const char *quota, *period;    /* processors; period NULL: both stand in one line */
} controller;

static const controller MEMORY[] = {
    {.name = "",
        .mount = "/sys/fs/cgroup",
        .limit = "memory.max",
        .used = "memory.current",
        .inactive = "inactive_file",
        .active = "active_file"},
    {.name = "memory",
        .mount = "/sys/fs/cgroup/memory",
        .limit = "memory.limit_in_bytes",
        .used = "memory.usage_in_bytes",
        .inactive = "total_inactive_file",
        .active = "total_active_file"},
};
static const controller CPU[] = {
    {.name = "", .mount = "/sys/fs/cgroup", .quota = "cpu.max"},
    {.name = "cpu", .mount = "/sys/fs/cgroup/cpu", .quota = "cpu.cfs_quota_us", .period = "cpu.cfs_period_us"},
};

/* ---- Files ------------------------------------------------------------------------------------------------------ */

static FILE *open_in(const char *folder, const char *name)
{
    char path[PATH_BYTES + 64];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
}

static bool read_line(const char *folder, const char *name, char *line, size_t size)
{
    FILE *file = open_in(folder, name);
    if (!file)
        return false;
    const bool ok = fgets(line, (int)size, file) != NULL;
    (void)fclose(file);
    return ok;
}

/* False for "max" and "-1", which mean no limit. */
static bool read_u64(const char *folder, const char *name, uint64_t *out)
{
    char line[64];
    return read_line(folder, name, line, sizeof line) && line[0] >= '0' && line[0] <= '9' &&
           sscanf(line, "%" SCNu64, out) == 1;
}

/* ---- Groups ----------------------------------------------------------------------------------------------------- */

/* True when the comma-separated list holds the name; the empty list holds "". */
static bool lists(const char *list, size_t bytes, const char *name)
{
    const size_t name_bytes = strlen(name);
    while (true) {
        const char *comma = memchr(list, ',', bytes);
        const size_t item_bytes = comma ? (size_t)(comma - list) : bytes;
        if (item_bytes == name_bytes && memcmp(list, name, name_bytes) == 0)
            return true;
        if (!comma)
            return false;
        list += item_bytes + 1;
        bytes -= item_bytes + 1;
    }
}

/* The group of this process: the path in the line "number:controllers:path"; "" when there is none or it lies outside of
 * what the process sees. */
static void find_group(const char *root, const char *name, char *group, size_t size)
{
    char line[PATH_BYTES];
    FILE *file = open_in(root, "proc/self/cgroup");
    group[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path || !lists(list + 1, (size_t)(path - list - 1), name))
            continue;
        const size_t bytes = strcspn(path + 1, "\n");
        if (!strstr(path + 1, "/..") && bytes > 1)
            (void)snprintf(group, size, "%.*s", (int)bytes, path + 1);
        break;
    }
    if (file)
        (void)fclose(file);
}

/* Makes folder the process' group; *mount_bytes is the length of the mount's part. In a container the group may be the
 * host's name of what is mounted here, and lead nowhere: the levels that do not exist have no files. */
static bool first_level(const controller *c, const char *root, char folder[PATH_BYTES], size_t *mount_bytes)
{
    char group[PATH_BYTES];
    find_group(root, c->name, group, sizeof group);
    *mount_bytes = strlen(root) + strlen(c->mount);
    const int n = snprintf(folder, PATH_BYTES, "%s%s%s", root, c->mount, group);
    return n > 0 && n < PATH_BYTES;
}

/* Cuts the last part of the path; false at the mount. */
static bool next_level(char *folder, size_t mount_bytes)
{
    char *slash = strrchr(folder, '/');
    if (!slash || (size_t)(slash - folder) < mount_bytes)
        return false;
    *slash = '\0';
    return true;
}

/* ---- Limits ----------------------------------------------------------------------------------------------------- */

static uint64_t file_pages(const controller *c, const char *folder)
{
    char line[128], name[64];
    uint64_t sum = 0, value = 0;
    FILE *file = open_in(folder, "memory.stat");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%63s %" SCNu64, name, &value) == 2 &&
            (strcmp(name, c->inactive) == 0 || strcmp(name, c->active) == 0))
            sum += value;
    }
    if (file)
        (void)fclose(file);
    return sum;
}

static uint64_t memory_left(const controller *c, const char *folder)
{
    uint64_t limit = 0, used = 0;
    if (!read_u64(folder, c->limit, &limit) || !read_u64(folder, c->used, &used))
        return UINT64_MAX;
    const uint64_t droppable = file_pages(c, folder);
    used -= droppable < used ? droppable : used;
    return limit > used ? limit - used : 0;
}

static int quota_cpus(const controller *c, const char *folder)
{
    char line[64];
    uint64_t quota = 0, period = 0;
    if (c->period ? !read_u64(folder, c->quota, &quota) || !read_u64(folder, c->period, &period)
                  : !read_line(folder, c->quota, line, sizeof line) || line[0] == 'm' ||
                        sscanf(line, "%" SCNu64 " %" SCNu64, &quota, &period) != 2)
        return 0;
    if (quota == 0 || period == 0 || quota / period > 1000000)
        return 0;
    return (int)(quota / period + (quota % period != 0));
}

int hs_cgroup_cpus(const char *root)
{
    char folder[PATH_BYTES];
    size_t mount_bytes = 0;
    int least = 0;
    for (size_t i = 0; i < sizeof CPU / sizeof *CPU; i++) {
        bool more = first_level(&CPU[i], root, folder, &mount_bytes);
        for (; more; more = next_level(folder, mount_bytes)) {
            const int n = quota_cpus(&CPU[i], folder);
            if (n > 0 && (least == 0 || n < least))
                least = n;
        }
    }
    return least;
}

uint64_t hs_cgroup_memory_bytes(const char *root)
{
    char folder[PATH_BYTES];
    size_t mount_bytes = 0;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < sizeof MEMORY / sizeof *MEMORY; i++) {
        bool more = first_level(&MEMORY[i], root, folder, &mount_bytes);
        for (; more; more = next_level(folder, mount_bytes)) {
            const uint64_t left = memory_left(&MEMORY[i], folder);
            least = left < least ? left : least;
        }
    }
    return least;
}
