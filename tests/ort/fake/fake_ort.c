/* A library with ONNX Runtime's entry and a version, and nothing behind it. FAKE_EMPTY: not even the entry. */
#include <stddef.h>
#include <stdint.h>

#ifdef FAKE_EMPTY
__attribute__((visibility("default"))) int fake_nothing(void)
{
    return 0;
}
#else
typedef struct base {
    const void *(*table)(uint32_t version);
    const char *(*version)(void);
} base;

static const void *table(uint32_t version)
{
    (void)version;
    return NULL;
}

static const char *version(void)
{
    return FAKE_VERSION;
}

__attribute__((visibility("default"))) const base *OrtGetApiBase(void)
{
    static const base the_base = {table, version};
    return &the_base;
}
#endif
