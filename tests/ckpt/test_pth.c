/* Files that torch.save wrote: every tensor equals the contents that PyTorch saved beside it, with the shape and the
 * strides that PyTorch saw. */
#include "ckpt/pth.h"

#include "base/json.h"
#include "ckpt_support.h"
#include "file/safetensors.h"

#define PICKLE TEST_DATA "/pickle"

/* "a/b/0" is the tensor "0" of the group "a.b"; a root that is a tensor itself has neither. */
static const hs_entry *find_by_path(const hs_statedict *dict, const char *path)
{
    char group[256] = "";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (slash)
        snprintf(group, sizeof group, "%.*s", (int)(slash - path), path);
    for (char *c = group; *c; c++)
        *c = *c == '/' ? '.' : *c;
    return hs_statedict_find(dict, group, strcmp(path, "_root") == 0 ? "" : name);
}

/* The elements in row-major order, as bytes. */
static unsigned char *gather(const hs_tensor *t)
{
    const size_t size = hs_dtype_bytes(t->dtype);
    const int64_t n = hs_tensor_elements(t);
    unsigned char *out = malloc((size_t)n * size + 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, offset = 0;
        for (int d = t->rank - 1; d >= 0; d--) {
            offset += rest % t->shape[d] * t->stride[d];
            rest /= t->shape[d];
        }
        memcpy(out + (size_t)i * size, (const unsigned char *)t->data + (size_t)offset * size, size);
    }
    return out;
}

/* The golden files hold bfloat16 as raw 16-bit integers of a type that our reader does not know: they become I16. */
static void open_expected(hs_statedict *out, const char *path)
{
    bytes b = read_whole(path);
    for (size_t i = 8; i + 5 < b.size; i++) {
        if (memcmp(b.data + i, "\"U16\"", 5) == 0)
            memcpy(b.data + i, "\"I16\"", 5);
    }
    char temporary[64];
    hstu_error err;
    write_temporary(temporary, b.data, b.size);
    free(b.data);
    if (hs_safetensors_open(out, temporary, &err) != HSTU_OK)
        fail_msg("%s: %s", path, err.msg);
    unlink(temporary);
}

static size_t n_compared;

static void compare_contents(const hs_statedict *dict, const char *path)
{
    hs_statedict expected = {0};
    open_expected(&expected, path);
    assert_true(expected.n_entries > 0 && expected.n_entries <= dict->n_entries);
    for (size_t i = 0; i < expected.n_entries; i++) {
        const hs_entry *want = &expected.entry[i], *got = find_by_path(dict, want->name);
        if (!got) /* one golden file describes the model's part of a checkpoint alone */
            got = hs_statedict_find(dict, "model_state_dict", want->name);
        if (!got)
            fail_msg("%s: no tensor '%s'", dict->path, want->name);
        assert_int_equal(hs_tensor_elements(&got->tensor), hs_tensor_elements(&want->tensor));
        assert_int_equal(hs_dtype_bytes(got->tensor.dtype), hs_dtype_bytes(want->tensor.dtype));
        unsigned char *a = gather(&got->tensor), *b = gather(&want->tensor);
        const size_t size = (size_t)hs_tensor_elements(&want->tensor) * hs_dtype_bytes(want->tensor.dtype);
        if (memcmp(a, b, size) != 0)
            fail_msg("%s: tensor '%s' has other contents", dict->path, want->name);
        free(a);
        free(b);
        n_compared++;
    }
    hs_statedict_close(&expected);
}

static void compare_array(
    const cJSON *object, const char *key, const int64_t *got, int rank, const char *file, const char *name)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(object, key), *item = NULL;
    int d = 0;
    assert_int_equal(cJSON_GetArraySize(array), rank);
    cJSON_ArrayForEach(item, array)
    {
        if (got[d] != (int64_t)item->valuedouble)
            fail_msg("%s: '%s' has %s %lld in dimension %d", file, name, key, (long long)got[d], d);
        d++;
    }
}

static const char *torch_name(hs_dtype dtype)
{
    static const char *const names[] = {
        "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"};
    return names[dtype];
}

/* Every tensor of the description is there, and nothing else. */
static void compare_structure(const hs_statedict *dict, const char *path)
{
    bytes b = read_whole(path);
    cJSON *root = NULL;
    const cJSON *item = NULL;
    hstu_error err;
    size_t n = 0;
    if (hs_json_parse(&root, (const char *)b.data, b.size, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    cJSON_ArrayForEach(item, root)
    {
        const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "kind"));
        if (!kind || (strcmp(kind, "tensor") != 0 && strcmp(kind, "parameter") != 0))
            continue;
        const hs_entry *entry = find_by_path(dict, item->string);
        if (!entry)
            fail_msg("%s: no tensor '%s'", dict->path, item->string);
        assert_string_equal(
            torch_name(entry->tensor.dtype), cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "dtype")));
        compare_array(item, "shape", entry->tensor.shape, entry->tensor.rank, path, item->string);
        compare_array(item, "stride", entry->tensor.stride, entry->tensor.rank, path, item->string);
        n++;
    }
    assert_int_equal(n, dict->n_entries);
    cJSON_Delete(root);
    free(b.data);
}

static int n_structures;

static void check_file(const char *path, const char *folder, const char *stem)
{
    hs_statedict dict = {0};
    hstu_error err;
    char beside[512];
    if (hs_ckpt_open(&dict, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(dict.format, strncmp(stem, "legacy", 6) == 0 ? "PyTorch legacy" : "PyTorch zip");
    assert_string_equal(dict.path, path);
    snprintf(beside, sizeof beside, "%s/%s.safetensors", folder, stem);
    if (access(beside, R_OK) == 0)
        compare_contents(&dict, beside);
    else /* an object of a class: inert, whatever tensors it holds */
        assert_true(strcmp(stem, "whole_module") == 0 && dict.n_entries == 0);
    snprintf(beside, sizeof beside, "%s/%s.json", folder, stem);
    if (access(beside, R_OK) == 0) {
        compare_structure(&dict, beside);
        n_structures++;
    }
    hs_statedict_close(&dict);
}

static void valid_files_load(void **state)
{
    (void)state;
    assert_int_equal(for_each_file(PICKLE "/valid_torch1.13", ".pt", check_file), 20);
    assert_int_equal(for_each_file(PICKLE "/valid_torch2.11", ".pt", check_file), 23);
    assert_int_equal(for_each_file(PICKLE "/valid_handmade", ".pt", check_file), 1);
    assert_true(n_compared > 700);
    assert_true(n_structures > 30);
}

static void open_valid(hs_statedict *out, const char *name)
{
    char path[512];
    hstu_error err;
    snprintf(path, sizeof path, PICKLE "/%s", name);
    if (hs_ckpt_open(out, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static const hs_tensor *tensor_of(const hs_statedict *dict, const char *group, const char *name)
{
    const hs_entry *entry = hs_statedict_find(dict, group, name);
    if (!entry)
        fail_msg("%s: no tensor '%s' in '%s'", dict->path, name, group);
    return &entry->tensor;
}

/* Offsets are relative to a shared storage: the pointers show them. */
static void views_share_a_storage(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        ptrdiff_t offset;
    } expected[] = {{"t", 0}, {"slice", 7}, {"step", 3}, {"col", 3}, {"expand", 5}, {"perm", 0}, {"overlap", 1}};
    hs_statedict dict = {0};
    open_valid(&dict, "valid_torch2.11/views.pt");
    const unsigned char *base = tensor_of(&dict, "", "base")->data;
    assert_ptr_equal(base >= dict.map.data && base < dict.map.data + dict.map.size ? base : NULL, base);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_int_equal(
            (const unsigned char *)tensor_of(&dict, "", expected[i].name)->data - base, expected[i].offset * 4);
    hs_statedict_close(&dict);
}

static void tied_tensors_stand_under_each_name(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    open_valid(&dict, "valid_torch1.13/tied.pt");
    assert_int_equal(dict.n_entries, 3);
    assert_ptr_equal(tensor_of(&dict, "", "emb.weight")->data, tensor_of(&dict, "", "head.weight")->data);
    hs_statedict_close(&dict);
}

static void groups_are_the_paths_of_dictionaries(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    open_valid(&dict, "valid_torch2.11/optimizer.pt");
    assert_string_equal(dict.entry[0].group, "model_state_dict");
    assert_string_equal(dict.entry[0].name, "module.weight");
    assert_int_equal(tensor_of(&dict, "optimizer_state_dict.state.1", "exp_avg")->rank, 1);
    hs_statedict_close(&dict);
    open_valid(&dict, "valid_torch2.11/nested.pt");
    assert_non_null(hs_statedict_find(&dict, "a.b.1", "0"));
    hs_statedict_close(&dict);
}

static void empty_tensors_have_no_data(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    open_valid(&dict, "valid_torch2.11/scalar_empty.pt");
    assert_null(tensor_of(&dict, "", "e30")->data);
    assert_int_equal(tensor_of(&dict, "", "zero_dim")->rank, 0);
    assert_non_null(tensor_of(&dict, "", "zero_dim")->data);
    hs_statedict_close(&dict);
}

/* A real checkpoint: written by the reference's own training code. */
static void training_checkpoint_loads(void **state)
{
    (void)state;
    hs_statedict dict = {0};
    hstu_error err;
    if (hs_ckpt_open(&dict, TEST_DATA "/golden/retrieval/base_h1_n71/checkpoint_ep100", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(dict.n_entries, 49);
    assert_non_null(hs_statedict_find(&dict, "model_state_dict", "module._hstu._attention_layers.0._uvqk"));
    hs_statedict_close(&dict);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_files_load),
        cmocka_unit_test(views_share_a_storage),
        cmocka_unit_test(tied_tensors_stand_under_each_name),
        cmocka_unit_test(groups_are_the_paths_of_dictionaries),
        cmocka_unit_test(empty_tensors_have_no_data),
        cmocka_unit_test(training_checkpoint_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
