/* Finding AMX and asking for it. */
#define _DEFAULT_SOURCE /* syscall */
#include "device/cpu/cpu_amx.h"

#if defined(HSTU_AMX_MODEL)
bool hs_cpu_may_use_amx(void)
{
    return true;
}
#elif defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers of the instruction set's manual and of Linux's <asm/prctl.h>, which older systems do not have. */
enum {
    OSXSAVE_ECX = 1 << 27,
    AMX_BF16_EDX = 1 << 22,
    AMX_TILE_EDX = 1 << 24,
    XCR0_TILES = 3 << 17, /* configuration and data */
    ARCH_REQ_XCOMP_PERM_CODE = 0x1023,
    XFEATURE_TILE_DATA = 18
};

static pthread_once_t asked = PTHREAD_ONCE_INIT;
static bool allowed;

static void ask(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0, low = 0, high = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE_ECX))
        return;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & AMX_BF16_EDX) || !(d & AMX_TILE_EDX))
        return;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & XCR0_TILES) == XCR0_TILES)
        allowed = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_CODE, XFEATURE_TILE_DATA) == 0;
}

bool hs_cpu_may_use_amx(void)
{
    (void)pthread_once(&asked, ask);
    return allowed;
}
#else
bool hs_cpu_may_use_amx(void)
{
    return false;
}
#endif
