/* Element types of tensors in files. */
#include "tensor/dtype.h"

static const struct {
    const char *file_name, *name;
    size_t bytes;
} types[HS_DTYPE_COUNT] = {
#define HS_DTYPE_ROW(symbol, file_name, name, bytes) [symbol] = {file_name, name, bytes},
    HS_DTYPE_MAP(HS_DTYPE_ROW)
#undef HS_DTYPE_ROW
};

size_t hs_dtype_bytes(hs_dtype dtype)
{
    return types[dtype].bytes;
}

const char *hs_dtype_name(hs_dtype dtype)
{
    return types[dtype].name;
}

const char *hs_dtype_file_name(hs_dtype dtype)
{
    return types[dtype].file_name;
}
