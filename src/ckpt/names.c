/* The names that may stand in a checkpoint's pickle. Owns the list; knows nothing of values. */
#include "ckpt/pickle_int.h"

#include <string.h>

typedef struct known_name {
    const char *module, *name;
    int id;
} known_name;

#define STORAGE(module, name, dtype)                                                                                   \
    {                                                                                                                  \
        module, name, HS_PKL_NAME_STORAGE + (dtype)                                                                    \
    }
#define STORAGES(module)                                                                                               \
    STORAGE(module, "FloatStorage", HS_F32), STORAGE(module, "DoubleStorage", HS_F64),                                 \
        STORAGE(module, "HalfStorage", HS_F16), STORAGE(module, "BFloat16Storage", HS_BF16),                           \
        STORAGE(module, "LongStorage", HS_I64), STORAGE(module, "IntStorage", HS_I32),                                 \
        STORAGE(module, "ShortStorage", HS_I16), STORAGE(module, "CharStorage", HS_I8),                                \
        STORAGE(module, "ByteStorage", HS_U8), STORAGE(module, "BoolStorage", HS_BOOL)

/* Names that become values. */
static const known_name KNOWN[] = {
    {"torch._utils", "_rebuild_tensor_v2", HS_PKL_NAME_REBUILD_TENSOR_V2},
    {"torch._utils", "_rebuild_tensor", HS_PKL_NAME_REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", HS_PKL_NAME_REBUILD_PARAMETER},
    {"torch._utils", "_rebuild_parameter_with_state", HS_PKL_NAME_REBUILD_PARAMETER},
    {"torch._tensor", "_rebuild_from_type_v2", HS_PKL_NAME_REBUILD_FROM_TYPE},
    {"torch", "Tensor", HS_PKL_NAME_TENSOR_TYPE},
    {"torch.nn.parameter", "Parameter", HS_PKL_NAME_TENSOR_TYPE},
    {"torch.nn.parameter", "Buffer", HS_PKL_NAME_TENSOR_TYPE},
    {"torch", "Size", HS_PKL_NAME_SIZE},
    {"torch", "UntypedStorage", HS_PKL_NAME_UNTYPED_STORAGE},
    {"torch.storage", "UntypedStorage", HS_PKL_NAME_UNTYPED_STORAGE},
    STORAGES("torch"),
    STORAGES("torch.storage"),
    STORAGES("torch.cuda"),
    {"collections", "OrderedDict", HS_PKL_NAME_ORDERED_DICT},
    {"collections", "defaultdict", HS_PKL_NAME_DEFAULT_DICT},
    {"__builtin__", "set", HS_PKL_NAME_SET},
    {"builtins", "set", HS_PKL_NAME_SET},
    {"__builtin__", "frozenset", HS_PKL_NAME_SET},
    {"builtins", "frozenset", HS_PKL_NAME_SET},
    /* What Megatron's layers keep their extra state in. */
    {"_io", "BytesIO", HS_PKL_NAME_INERT},
};

/* Modules any of whose names may stand as inert objects, with their submodules. */
static const char *const TREES[] = {"torch", "numpy", "torchrec", "megatron", "transformer_engine"};
/* The same without submodules. */
static const char *const MODULES[] = {"collections", "_codecs"};
/* Of Python's builtins only these: types, and getattr, which sharded tensors' pickles hold and nothing applies. */
static const char *const BUILTINS[] = {"bool", "bytearray", "bytes", "complex", "dict", "float", "getattr", "int",
    "list", "long", "object", "range", "slice", "str", "tuple", "unicode", "xrange"};

/* More than any name has; what a hostile file repeats from the memo is examined again each time. */
enum { MAX_PART_BYTES = 512 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool equals(const char *text, size_t bytes, const char *expected)
{
    return strlen(expected) == bytes && memcmp(text, expected, bytes) == 0;
}

static bool in_list(const char *text, size_t bytes, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (equals(text, bytes, list[i]))
            return true;
    }
    return false;
}

/* Letters, digits, '_', and where dots are allowed single ones inside. */
static bool is_identifier(const char *text, size_t bytes, bool dots)
{
    bool begins = true; /* a part must begin here */
    for (size_t i = 0; i < bytes; i++) {
        const char c = text[i];
        if (c == '.' && dots && !begins) {
            begins = true;
            continue;
        }
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (begins || c < '0' || c > '9'))
            return false;
        begins = false;
    }
    return !begins;
}

bool hs_pkl_name_find(int64_t *out, const char *module, size_t module_bytes, const char *name, size_t name_bytes)
{
    /* A dotted attribute ("os.system" under torch.utils) would lead out of the module: exact names only. */
    if (module_bytes > MAX_PART_BYTES || name_bytes > MAX_PART_BYTES || !is_identifier(module, module_bytes, true) ||
        !is_identifier(name, name_bytes, false))
        return false;
    for (size_t i = 0; i < COUNT(KNOWN); i++) {
        if (equals(module, module_bytes, KNOWN[i].module) && equals(name, name_bytes, KNOWN[i].name)) {
            *out = KNOWN[i].id;
            return true;
        }
    }
    *out = HS_PKL_NAME_INERT;
    if (equals(module, module_bytes, "torch._utils") && name_bytes > 9 && memcmp(name, "_rebuild_", 9) == 0)
        *out = HS_PKL_NAME_REBUILD_OTHER;
    const char *dot = memchr(module, '.', module_bytes);
    const size_t top_bytes = dot ? (size_t)(dot - module) : module_bytes;
    if (in_list(module, top_bytes, TREES, COUNT(TREES)) || in_list(module, module_bytes, MODULES, COUNT(MODULES)))
        return true;
    return (equals(module, module_bytes, "builtins") || equals(module, module_bytes, "__builtin__")) &&
           in_list(name, name_bytes, BUILTINS, COUNT(BUILTINS));
}
