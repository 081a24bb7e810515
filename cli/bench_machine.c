/* The machine and the build that a bench's rows name. */
#include "cli/bench_report.h"

#include "base/system.h"
#include "hstu/version.h"

#include <string.h>

/* Stands in cli/CMakeLists.txt, for this file alone. */
#ifndef HSTU_COMMIT
#define HSTU_COMMIT ""
#endif

#if defined(__clang__)
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

/* What stands behind the colon of a line of /proc/cpuinfo. */
static const char *value_of(char *line, const char *key)
{
    char *colon = strncmp(line, key, strlen(key)) == 0 ? strchr(line, ':') : NULL;
    if (!colon)
        return NULL;
    colon[strcspn(colon, "\n")] = '\0';
    return colon + 1 + strspn(colon + 1, " \t");
}

void hs_bench_machine_get(hs_bench_machine *out)
{
    char line[512];
    const char *name = NULL;
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file && !name && fgets(line, sizeof line, file))
        name = value_of(line, "model name");
    *out = (hs_bench_machine){.cores = hs_system_cpus(),
        .compiler = COMPILER,
        .version = hstu_version(),
        .commit = HSTU_COMMIT[0] ? HSTU_COMMIT : NULL};
    (void)snprintf(out->cpu, sizeof out->cpu, "%s", name ? name : "");
    hs_console_clean(out->cpu);
    if (file)
        (void)fclose(file);
}
