/* What the known names of a pickle become: storages, tensors checked against their storage, dictionaries. */
#include "ckpt/pickle_int.h"

#include <string.h>

/* A tensor whose elements overlap in its storage (stride 0) may be larger than it: up to this many times, or this many
 * bytes, whichever is more. PyTorch writes such views after expand(); without a limit they are bombs. */
enum { MAX_EXPANSION = 64, FREE_EXPANSION_BYTES = 1 << 20 };

/* PyTorch's keys are numbers. Records are sorted by key: long equal ones would make that slow. */
enum { MAX_KEY_BYTES = 256 };

static bool is_container(const hs_pkl_object *object)
{
    return object->kind == HS_PKL_LIST || object->kind == HS_PKL_TUPLE;
}

static bool is_inert(const hs_pkl_object *object)
{
    return object->kind == HS_PKL_INERT;
}

/* ---- Tensors ---------------------------------------------------------------------------------------------------- */

static hstu_status read_sizes(const hs_pkl_reader *r, const hs_pkl_object *tuple, const char *what, int64_t *out)
{
    for (size_t i = 0; i < tuple->as.seq.n; i++) {
        const hs_pkl_object *item = tuple->as.seq.item[i];
        if (item->kind != HS_PKL_INT || item->as.integer < 0)
            return hs_pkl_fail(r, HSTU_EFORMAT, "%s %zu of a tensor must be a whole number of at least 0", what, i);
        out[i] = item->as.integer;
    }
    return HSTU_OK;
}

/* The number of elements, and the index behind the last one in the storage; false on overflow. */
static bool measure(const hs_tensor *t, int64_t offset, int64_t *elements, int64_t *end)
{
    int64_t n = 1, last = offset;
    for (int d = 0; d < t->rank; d++) {
        if (t->shape[d] == 0) {
            *elements = 0;
            *end = offset;
            return true;
        }
    }
    for (int d = 0; d < t->rank; d++) {
        int64_t span = 0;
        if (__builtin_mul_overflow(n, t->shape[d], &n) ||
            __builtin_mul_overflow(t->shape[d] - 1, t->stride[d], &span) || __builtin_add_overflow(last, span, &last))
            return false;
    }
    *elements = n;
    return !__builtin_add_overflow(last, 1, end);
}

static hstu_status check_view(const hs_pkl_reader *r, const hs_pkl_tensor *tensor)
{
    const hs_pkl_storage *storage = tensor->storage;
    int64_t elements = 0, end = 0, bytes = 0;
    char shape[128], stride[128];
    hs_tensor strides = {.rank = tensor->view.rank};
    memcpy(strides.shape, tensor->view.stride, sizeof strides.shape);
    if (!measure(&tensor->view, tensor->offset, &elements, &end) || end > storage->numel)
        return hs_pkl_fail(r, HSTU_EFORMAT,
            "a tensor of shape %s, strides %s and offset %lld does not lie inside its storage '%.*s' of %lld elements",
            hs_tensor_shape_text(&tensor->view, shape, sizeof shape),
            hs_tensor_shape_text(&strides, stride, sizeof stride), (long long)tensor->offset,
            storage->key_bytes > 64 ? 64 : (int)storage->key_bytes, storage->key, (long long)storage->numel);
    if (elements <= storage->numel)
        return HSTU_OK;
    const int64_t element_bytes = (int64_t)hs_dtype_bytes(storage->dtype);
    const int64_t storage_bytes = storage->numel * element_bytes; /* checked when the storage was made */
    if (__builtin_mul_overflow(elements, element_bytes, &bytes) ||
        (bytes > FREE_EXPANSION_BYTES && bytes / MAX_EXPANSION > storage_bytes))
        return hs_pkl_fail(r, HSTU_EUNSUP,
            "a tensor of shape %s repeats a storage of %lld elements more than %d times, which is refused",
            hs_tensor_shape_text(&tensor->view, shape, sizeof shape), (long long)storage->numel, MAX_EXPANSION);
    return HSTU_OK;
}

/* args: storage, offset, size, stride, and for version 2 requires_grad, backward_hooks, perhaps metadata. */
static hstu_status rebuild_tensor(hs_pkl_reader *r, const hs_pkl_object *args, bool v2, hs_pkl_object **out)
{
    hs_pkl_object *const *arg = args->as.seq.item;
    const size_t n = args->as.seq.n;
    if (v2 ? n != 6 && n != 7 : n != 4)
        return hs_pkl_fail(r, HSTU_EFORMAT, "_rebuild_tensor%s must have %s arguments and has %zu", v2 ? "_v2" : "",
            v2 ? "6 or 7" : "4", n);
    if (arg[0]->kind != HS_PKL_STORAGE || arg[0]->as.storage->untyped)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a tensor is built from something that is no typed storage");
    if (arg[1]->kind != HS_PKL_INT || arg[1]->as.integer < 0)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a tensor's storage offset must be a whole number of at least 0");
    if (arg[2]->kind != HS_PKL_TUPLE || arg[3]->kind != HS_PKL_TUPLE || arg[2]->as.seq.n != arg[3]->as.seq.n)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a tensor's size and stride must be two tuples of the same length");
    if (arg[2]->as.seq.n > HS_MAX_RANK)
        return hs_pkl_fail(
            r, HSTU_EUNSUP, "a tensor has %zu dimensions, at most %d are supported", arg[2]->as.seq.n, HS_MAX_RANK);
    if (n == 7 && arg[6]->kind != HS_PKL_NONE && (arg[6]->kind != HS_PKL_DICT || arg[6]->as.seq.n))
        return hs_pkl_fail(r, HSTU_EUNSUP,
            "a tensor carries metadata (its stored values are to be negated or conjugated), which is not supported");
    hs_pkl_object *object = hs_pkl_new(r, HS_PKL_TENSOR);
    hs_pkl_tensor *tensor = hs_pkl_alloc(r, 1, sizeof *tensor);
    if (!object || !tensor)
        return hs_pkl_fail_memory(r);
    *tensor = (hs_pkl_tensor){.storage = arg[0]->as.storage,
        .offset = arg[1]->as.integer,
        .view = {.dtype = arg[0]->as.storage->dtype, .rank = (int)arg[2]->as.seq.n}};
    HS_TRY(read_sizes(r, arg[2], "size", tensor->view.shape));
    HS_TRY(read_sizes(r, arg[3], "stride", tensor->view.stride));
    HS_TRY(check_view(r, tensor));
    object->as.tensor = tensor;
    *out = object;
    return HSTU_OK;
}

/* args: data, requires_grad, backward_hooks, and perhaps a state, which is ignored. */
static hstu_status rebuild_parameter(hs_pkl_reader *r, const hs_pkl_object *args, hs_pkl_object **out)
{
    const size_t n = args->as.seq.n;
    if ((n != 3 && n != 4) || (args->as.seq.item[0]->kind != HS_PKL_TENSOR && !is_inert(args->as.seq.item[0])))
        return hs_pkl_fail(r, HSTU_EFORMAT, "_rebuild_parameter must have a tensor and 2 or 3 more arguments");
    *out = args->as.seq.item[0];
    return HSTU_OK;
}

/* A tensor that cannot be read: harmless unless a weight is missing in its place. */
static hstu_status make_other_tensor(hs_pkl_reader *r, const hs_pkl_object *global, hs_pkl_object **out)
{
    *out = hs_pkl_new(r, HS_PKL_INERT);
    if (!*out)
        return hs_pkl_fail_memory(r);
    (*out)->as.string.text = global->as.global.name;
    (*out)->as.string.bytes = global->as.global.bytes;
    return HSTU_OK;
}

/* args: function, type, its arguments, a state, which is ignored. Tensor subclasses (sharded tensors) become inert. */
static hstu_status rebuild_from_type(hs_pkl_reader *r, const hs_pkl_object *args, hs_pkl_object **out)
{
    if (args->as.seq.n != 4 || args->as.seq.item[2]->kind != HS_PKL_TUPLE)
        return hs_pkl_fail(r, HSTU_EFORMAT, "_rebuild_from_type_v2 must have 4 arguments, the third of them a tuple");
    const hs_pkl_object *function = args->as.seq.item[0], *type = args->as.seq.item[1];
    *out = r->inert;
    if (function->kind != HS_PKL_GLOBAL || type->kind != HS_PKL_GLOBAL || type->as.global.id != HS_PKL_NAME_TENSOR_TYPE)
        return type->kind == HS_PKL_GLOBAL ? make_other_tensor(r, type, out) : HSTU_OK;
    switch (function->as.global.id) {
    case HS_PKL_NAME_REBUILD_TENSOR:
    case HS_PKL_NAME_REBUILD_TENSOR_V2:
        return rebuild_tensor(r, args->as.seq.item[2], function->as.global.id == HS_PKL_NAME_REBUILD_TENSOR_V2, out);
    case HS_PKL_NAME_REBUILD_PARAMETER:
        return rebuild_parameter(r, args->as.seq.item[2], out);
    default:
        return make_other_tensor(r, function, out);
    }
}

/* ---- Containers ------------------------------------------------------------------------------------------------- */

/* OrderedDict() or OrderedDict([[key, value], ...]). */
static hstu_status make_dict(hs_pkl_reader *r, const hs_pkl_object *args, hs_pkl_object **out)
{
    hs_pkl_object *dict = hs_pkl_new(r, HS_PKL_DICT);
    if (!dict)
        return hs_pkl_fail_memory(r);
    *out = dict;
    if (args->as.seq.n == 0)
        return HSTU_OK;
    const hs_pkl_object *pairs = args->as.seq.item[0];
    if (args->as.seq.n != 1 || !is_container(pairs))
        return hs_pkl_fail(r, HSTU_EFORMAT, "OrderedDict must be made from one list of pairs");
    for (size_t i = 0; i < pairs->as.seq.n; i++) {
        const hs_pkl_object *pair = pairs->as.seq.item[i];
        if (!is_container(pair) || pair->as.seq.n != 2)
            return hs_pkl_fail(r, HSTU_EFORMAT, "OrderedDict must be made from one list of pairs");
        HS_TRY(hs_pkl_extend(r, dict, pair->as.seq.item, 2));
    }
    return HSTU_OK;
}

static hstu_status make_set(hs_pkl_reader *r, const hs_pkl_object *args, hs_pkl_object **out)
{
    hs_pkl_object *set = hs_pkl_new(r, HS_PKL_SET);
    if (!set)
        return hs_pkl_fail_memory(r);
    *out = set;
    if (args->as.seq.n == 1 && is_container(args->as.seq.item[0]))
        return hs_pkl_extend(r, set, args->as.seq.item[0]->as.seq.item, args->as.seq.item[0]->as.seq.n);
    return args->as.seq.n == 0 ? HSTU_OK : hs_pkl_fail(r, HSTU_EFORMAT, "a set must be made from one list or tuple");
}

hstu_status hs_pkl_call(hs_pkl_reader *r, const hs_pkl_object *callable, const hs_pkl_object *args, hs_pkl_object **out)
{
    *out = r->inert;
    if (args->kind != HS_PKL_TUPLE)
        return hs_pkl_fail(r, HSTU_EFORMAT, "the arguments of a call must be a tuple");
    if (is_inert(callable))
        return HSTU_OK;
    if (callable->kind != HS_PKL_GLOBAL)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a value is called that is no name");
    switch (callable->as.global.id) {
    case HS_PKL_NAME_ORDERED_DICT:
        return make_dict(r, args, out);
    case HS_PKL_NAME_DEFAULT_DICT:
        *out = hs_pkl_new(r, HS_PKL_DICT);
        return *out ? HSTU_OK : hs_pkl_fail_memory(r);
    case HS_PKL_NAME_SET:
        return make_set(r, args, out);
    case HS_PKL_NAME_SIZE:
        if (args->as.seq.n == 1 && args->as.seq.item[0]->kind == HS_PKL_TUPLE)
            *out = args->as.seq.item[0];
        return HSTU_OK;
    case HS_PKL_NAME_REBUILD_TENSOR:
        return rebuild_tensor(r, args, false, out);
    case HS_PKL_NAME_REBUILD_TENSOR_V2:
        return rebuild_tensor(r, args, true, out);
    case HS_PKL_NAME_REBUILD_PARAMETER:
        return rebuild_parameter(r, args, out);
    case HS_PKL_NAME_REBUILD_FROM_TYPE:
        return rebuild_from_type(r, args, out);
    case HS_PKL_NAME_REBUILD_OTHER:
        return make_other_tensor(r, callable, out);
    default:
        return HSTU_OK;
    }
}

/* ---- Storages --------------------------------------------------------------------------------------------------- */

static bool is_text(const hs_pkl_object *object, const char *expected)
{
    const size_t n = strlen(expected);
    return object->kind == HS_PKL_STR && object->as.string.bytes == n &&
           memcmp(object->as.string.text, expected, n) == 0;
}

/* The legacy container's view of a storage: (key, offset, size), inside its root storage. */
static hstu_status read_view(const hs_pkl_reader *r, const hs_pkl_object *view, hs_pkl_storage *storage)
{
    if (view->kind == HS_PKL_NONE)
        return HSTU_OK;
    if (view->kind != HS_PKL_TUPLE || view->as.seq.n != 3 || view->as.seq.item[1]->kind != HS_PKL_INT ||
        view->as.seq.item[2]->kind != HS_PKL_INT)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a storage's view must be None or (key, offset, size)");
    const int64_t first = view->as.seq.item[1]->as.integer, numel = view->as.seq.item[2]->as.integer;
    if (first < 0 || numel < 0 || first > storage->record_numel || numel > storage->record_numel - first)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a storage's view (%lld elements at %lld) leaves its storage of %lld",
            (long long)numel, (long long)first, (long long)storage->record_numel);
    storage->first = first;
    storage->numel = numel;
    return HSTU_OK;
}

/* id: ("storage", type, key, location, elements), in the legacy container with a view behind. */
static hstu_status read_storage(const hs_pkl_reader *r, const hs_pkl_object *id, hs_pkl_storage *storage)
{
    if (id->kind != HS_PKL_TUPLE || (id->as.seq.n != 5 && id->as.seq.n != 6))
        return hs_pkl_fail(r, HSTU_EFORMAT, "a persistent id must be a tuple of 5 or 6");
    hs_pkl_object *const *part = id->as.seq.item;
    if (!is_text(part[0], "storage"))
        return hs_pkl_fail(r, HSTU_EFORMAT, "a persistent id must be of the kind 'storage'");
    if (part[1]->kind != HS_PKL_GLOBAL)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a storage's type must be a name");
    if (part[1]->as.global.id < HS_PKL_NAME_UNTYPED_STORAGE)
        return hs_pkl_fail(r, HSTU_EUNSUP, "the storage type '%.*s' is not supported",
            part[1]->as.global.bytes > 64 ? 64 : (int)part[1]->as.global.bytes, part[1]->as.global.name);
    if (part[2]->kind != HS_PKL_STR || part[3]->kind != HS_PKL_STR || part[2]->as.string.bytes > MAX_KEY_BYTES)
        return hs_pkl_fail(r, HSTU_EFORMAT,
            "a storage's key and location must be strings, and its key have at most %d bytes", MAX_KEY_BYTES);
    storage->untyped = part[1]->as.global.id == HS_PKL_NAME_UNTYPED_STORAGE;
    storage->dtype = storage->untyped ? HS_U8 : (hs_dtype)(part[1]->as.global.id - HS_PKL_NAME_STORAGE);
    storage->key = part[2]->as.string.text;
    storage->key_bytes = part[2]->as.string.bytes;
    const int64_t element_bytes = (int64_t)hs_dtype_bytes(storage->dtype);
    if (part[4]->kind != HS_PKL_INT || part[4]->as.integer < 0 || part[4]->as.integer > INT64_MAX / element_bytes)
        return hs_pkl_fail(r, HSTU_EFORMAT, "a storage's element count must be a whole number from 0 to 2^63 bytes");
    storage->record_numel = storage->numel = part[4]->as.integer;
    return id->as.seq.n == 6 ? read_view(r, part[5], storage) : HSTU_OK;
}

hstu_status hs_pkl_persistent(hs_pkl_reader *r, const hs_pkl_object *id, hs_pkl_object **out)
{
    hs_pickle *pickle = r->out;
    hs_pkl_object *object = hs_pkl_new(r, HS_PKL_STORAGE);
    hs_pkl_storage *storage = hs_pkl_alloc(r, 1, sizeof *storage);
    if (!object || !storage)
        return hs_pkl_fail_memory(r);
    *storage = (hs_pkl_storage){0};
    HS_TRY(read_storage(r, id, storage));
    void *array = pickle->storage;
    HS_TRY(hs_pkl_reserve(r, &array, &r->cap_storage, pickle->n_storages + 1, sizeof *pickle->storage));
    pickle->storage = array;
    pickle->storage[pickle->n_storages++] = storage;
    object->as.storage = storage;
    *out = object;
    return HSTU_OK;
}
