/* Element types of tensors in files. */
#ifndef HS_TENSOR_DTYPE_H
#define HS_TENSOR_DTYPE_H

#include <stddef.h>

/* X(symbol, safetensors name, human name, bytes) */
#define HS_DTYPE_MAP(X)                                                                                                \
    X(HS_BOOL, "BOOL", "bool", 1)                                                                                      \
    X(HS_U8, "U8", "uint8", 1)                                                                                         \
    X(HS_I8, "I8", "int8", 1)                                                                                          \
    X(HS_I16, "I16", "int16", 2)                                                                                       \
    X(HS_I32, "I32", "int32", 4)                                                                                       \
    X(HS_I64, "I64", "int64", 8)                                                                                       \
    X(HS_F16, "F16", "fp16", 2)                                                                                        \
    X(HS_BF16, "BF16", "bf16", 2)                                                                                      \
    X(HS_F32, "F32", "fp32", 4)                                                                                        \
    X(HS_F64, "F64", "fp64", 8)

typedef enum hs_dtype {
#define HS_DTYPE_ENUM(symbol, file_name, name, bytes) symbol,
    HS_DTYPE_MAP(HS_DTYPE_ENUM)
#undef HS_DTYPE_ENUM
        HS_DTYPE_COUNT
} hs_dtype;

size_t hs_dtype_bytes(hs_dtype dtype);
const char *hs_dtype_name(hs_dtype dtype);      /* "fp32": what people read */
const char *hs_dtype_file_name(hs_dtype dtype); /* "F32": what safetensors headers hold */

#endif
