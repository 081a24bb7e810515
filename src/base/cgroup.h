/* What the control groups of this process allow, versions 2 and 1. Source: the kernel's admin-guide/cgroup-v2.rst and
 * cgroup-v1/memory.rst. */
#ifndef HS_BASE_CGROUP_H
#define HS_BASE_CGROUP_H

#include <stdint.h>

/* root stands before /proc and /sys: "" but in tests. A group's limits and those of every group above it hold. */

/* The smallest processor quota, rounded up to whole processors; 0 when there is none. */
int hs_cgroup_cpus(const char *root);
/* The bytes that the groups leave, file pages that the kernel can drop not counted as used; UINT64_MAX without a limit. */
uint64_t hs_cgroup_memory_bytes(const char *root);

#endif
