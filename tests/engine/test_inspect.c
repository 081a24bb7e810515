/* hstu_checkpoint_*, and how a model finds its configuration. */
#include "engine/golden_ranking.h"

#include "hstu/checkpoint.h"

#include <unistd.h>

static hstu_checkpoint *open_checkpoint(const char *path, const char *config)
{
    hstu_error err;
    hstu_checkpoint *c = NULL;
    char copy[1024];
    (void)snprintf(copy, sizeof copy, "%s", path);
    assert_ok(hstu_checkpoint_open(&c, copy, config, &err), &err);
    memset(copy, 'x', sizeof copy - 1); /* the path was only borrowed */
    return c;
}

static void test_a_pytorch_file(void **state)
{
    hstu_checkpoint_info info;
    hstu_tensor_info t;
    hstu_error err;
    int uses[4] = {0};
    (void)state;
    hstu_checkpoint *c = open_checkpoint(golden_path("retrieval/base_h1_n71", "checkpoint_ep100"), NULL);
    hstu_checkpoint_get_info(c, &info);
    assert_string_equal(info.format, "PyTorch zip");
    assert_string_equal(info.family, "retrieval HSTU");
    assert_null(info.not_supported);
    assert_int_equal(info.n_missing, 0);
    for (uint64_t i = 0; i < info.n_tensors; i++) {
        assert_ok(hstu_checkpoint_tensor(c, i, &t, &err), &err);
        uses[t.use]++;
        if (t.use == HSTU_TENSOR_IGNORED)
            assert_non_null(t.reason);
        if (strcmp(t.name, "module._embedding_module._item_emb.weight") == 0) {
            assert_string_equal(t.group, "model_state_dict");
            assert_string_equal(t.dtype, "fp32");
            assert_int_equal(t.shape[0], 501);
            assert_int_equal(t.shape[1], 32);
            assert_int_equal(t.bytes, 501 * 32 * 4);
        }
    }
    assert_int_equal(uses[HSTU_TENSOR_BOUND], 2 + 2 * 5);
    assert_int_equal(uses[HSTU_TENSOR_EXTRA], 0);
    assert_true(uses[HSTU_TENSOR_IGNORED] > 12); /* the mask and AdamW's state */
    assert_int_equal(hstu_checkpoint_tensor(c, info.n_tensors, &t, &err), HSTU_EINVAL);
    assert_int_equal(hstu_checkpoint_missing(c, 0, &t, &err), HSTU_EINVAL);
    assert_non_null(strstr(hstu_checkpoint_config(c), "\"item_embedding_dim\":\t32"));
    assert_null(strstr(hstu_checkpoint_config(c), "num_heads")); /* no tensor tells */
    hstu_checkpoint_close(c);
    hstu_checkpoint_close(NULL);
}

static void test_with_a_configuration(void **state)
{
    hstu_checkpoint *c = NULL;
    hstu_error err;
    char path[1024], config[1024];
    (void)state;
    (void)snprintf(path, sizeof path, "%s", golden_path("retrieval/sasrec_h2_n71", "checkpoint_ep100.torch2.11"));
    (void)snprintf(config, sizeof config, "%s", golden_path("retrieval/sasrec_h2_n71", "config.json"));
    c = open_checkpoint(path, config);
    assert_non_null(strstr(hstu_checkpoint_config(c), "\"num_heads\":\t2"));
    assert_non_null(strstr(hstu_checkpoint_config(c), "\"ffn_hidden_dim\":\t24"));
    hstu_checkpoint_close(c);
    assert_int_equal(hstu_checkpoint_open(&c, path, "ml-1m", &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "ml-1m: main_module is \"HSTU\""));
}

typedef struct given {
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
} given;

/* A safetensors file of zeros, with a metadata pair when key is not NULL. */
static void write_file(const char *path, const given *tensor, size_t n, const char *key, const char *value)
{
    hstu_error err;
    hs_safetensors_writer *w = NULL;
    static const float zeros[1024];
    assert_ok(hs_safetensors_create(&w, path, &err), &err);
    if (key)
        assert_ok(hs_safetensors_add_metadata(w, key, value, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const int64_t shape[2] = {tensor[i].rows, tensor[i].cols};
        assert_ok(hs_safetensors_add_tensor(w, tensor[i].name, HS_F32, tensor[i].cols ? 2 : 1, shape, &err), &err);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t elements = (size_t)(tensor[i].rows * (tensor[i].cols ? tensor[i].cols : 1));
        assert_true(elements <= 1024);
        assert_ok(hs_safetensors_write(w, zeros, elements * sizeof(float), &err), &err);
    }
    assert_ok(hs_safetensors_commit(w, &err), &err);
}

static const given small[] = {
    {"_embedding_module._item_emb.weight", 6, 4},
    {"_input_features_preproc._pos_emb.weight", 16, 4},
    {"_hstu._attention_layers.0._uvqk", 4, 16},
    {"_hstu._attention_layers.0._rel_attn_bias._ts_w", 129, 0},
    {"_hstu._attention_layers.0._rel_attn_bias._pos_w", 31, 0},
    {"_hstu._attention_layers.0._o.weight", 4, 4},
    {"_hstu._attention_layers.0._o.bias", 4, 0},
};
enum { SMALL = sizeof small / sizeof small[0] };

static const char *temporary_path(void)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "/tmp/hstu_test_inspect_%ld.safetensors", (long)getpid());
    return path;
}

static void test_near_miss(void **state)
{
    given tensors[SMALL];
    hstu_checkpoint_info info;
    hstu_tensor_info t;
    hstu_error err;
    hstu_model *model = NULL;
    (void)state;
    memcpy(tensors, small, sizeof tensors);
    tensors[SMALL - 1].name = "_hstu._attention_layers.0._o.bais";
    write_file(temporary_path(), tensors, SMALL, NULL, NULL);
    hstu_checkpoint *c = open_checkpoint(temporary_path(), NULL);
    hstu_checkpoint_get_info(c, &info);
    assert_int_equal(info.n_missing, 1);
    assert_ok(hstu_checkpoint_missing(c, 0, &t, &err), &err);
    assert_string_equal(t.name, "_hstu._attention_layers.0._o.bias");
    assert_int_equal(t.rank, 1);
    assert_int_equal(t.shape[0], 4);
    int extra = 0;
    for (uint64_t i = 0; i < info.n_tensors; i++) {
        assert_ok(hstu_checkpoint_tensor(c, i, &t, &err), &err);
        if (t.use == HSTU_TENSOR_EXTRA) {
            assert_string_equal(t.name, "_hstu._attention_layers.0._o.bais");
            extra++;
        }
    }
    assert_int_equal(extra, 1);
    hstu_checkpoint_close(c);

    /* Without a configuration of its own the default preset is compared, which says another size. */
    assert_int_equal(hstu_model_open(&model, temporary_path(), NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "the default configuration kuairand_gr (none stands beside the checkpoint"));
    assert_non_null(strstr(err.msg, "item_embedding_dim is 512, but tensor"));
    assert_int_equal(remove(temporary_path()), 0);
}

static void test_other_families(void **state)
{
    static const struct {
        given tensor;
        const char *family; /* NULL: not recognised */
    } cases[] = {
        {{"model._hstu_block._attention_layers.0._linear_uvqk_weight", 4, 4}, "NVIDIA retrieval HSTU"},
        {{"_hstu_transducer._stu_module._stu_layers.0._uvqk_weight", 4, 4}, "DLRM-v3 HSTU"},
        {{"something.else", 4, 4}, NULL},
    };
    hstu_checkpoint_info info;
    hstu_tensor_info t;
    hstu_error err;
    hstu_model *model = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(temporary_path(), &cases[i].tensor, 1, NULL, NULL);
        hstu_checkpoint *c = open_checkpoint(temporary_path(), NULL);
        hstu_checkpoint_get_info(c, &info);
        assert_ok(hstu_checkpoint_tensor(c, 0, &t, &err), &err);
        assert_int_equal(t.use, HSTU_TENSOR_UNKNOWN);
        assert_null(hstu_checkpoint_config(c));
        assert_int_equal(hstu_model_open(&model, temporary_path(), NULL, &err), HSTU_EUNSUP);
        if (cases[i].family) {
            assert_string_equal(info.family, cases[i].family);
            assert_non_null(info.not_supported);
            assert_non_null(strstr(err.msg, cases[i].family));
        } else {
            assert_null(info.family);
            assert_non_null(strstr(err.msg, "something.else"));
        }
        hstu_checkpoint_close(c);
        assert_int_equal(remove(temporary_path()), 0);
    }
}

/* A file that carries its configuration needs nothing else. */
static void test_configuration_in_the_file(void **state)
{
    hstu_model *model = NULL;
    hstu_model_info info;
    hstu_error err;
    hstu_model_options options;
    const char *key = NULL, *value = NULL;
    (void)state;
    write_file(temporary_path(), small, SMALL, "hstu_config", "{\"num_heads\": 2, \"dqk\": 2, \"dv\": 2}");
    assert_ok(hstu_model_open(&model, temporary_path(), NULL, &err), &err);
    hstu_model_get_info(model, &info);
    assert_string_equal(info.config, temporary_path());
    assert_int_equal(info.n_heads, 2);
    assert_int_equal(info.max_sequence_length, 5);
    assert_int_equal(info.max_item_id, 5);
    assert_false(info.random_weights);
    hstu_model_close(model);

    model = NULL;
    hstu_model_options_init(&options);
    options.config = "ml-1m"; /* named by the caller: it wins, and contradicts */
    assert_int_equal(hstu_model_open(&model, temporary_path(), &options, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "ml-1m: item_embedding_dim is 50"));

    hstu_checkpoint *c = open_checkpoint(temporary_path(), NULL);
    assert_ok(hstu_checkpoint_metadata(c, 0, &key, &value, &err), &err);
    assert_string_equal(key, "hstu_config");
    assert_int_equal(hstu_checkpoint_metadata(c, 1, &key, &value, &err), HSTU_EINVAL);
    hstu_checkpoint_close(c);
    assert_int_equal(remove(temporary_path()), 0);
}

/* NVIDIA's folders: the ranks' tensors one after the other, the tables beside them, and no model. */
static void test_a_folder(void **state)
{
    hstu_checkpoint_info info;
    hstu_tensor_info t;
    hstu_table_info table;
    hstu_error err;
    hstu_model *model = NULL;
    int n_ignored = 0;
    (void)state;
    hstu_checkpoint *c = open_checkpoint(golden_path("ranking/c6_fused_fp32", "checkpoint_native_tp2"), NULL);
    hstu_checkpoint_get_info(c, &info);
    assert_string_equal(info.format, "NVIDIA checkpoint folder");
    assert_string_equal(info.layout, "NATIVE");
    assert_string_equal(info.family, "NVIDIA ranking HSTU");
    assert_null(info.not_supported);
    assert_int_equal(info.n_ranks, 2);
    assert_int_equal(info.tensor_parallel, 2);
    assert_int_equal(info.n_tensors, 2 * 24);
    for (uint64_t i = 0; i < info.n_tensors; i++) {
        assert_ok(hstu_checkpoint_tensor(c, i, &t, &err), &err);
        assert_int_equal(t.file_rank, i / 24);
        const bool ignored = strstr(t.name, "_extra_state") || strstr(t.name, "_model_parallel_embedding_collection");
        assert_int_equal(t.use, ignored ? HSTU_TENSOR_IGNORED : HSTU_TENSOR_BOUND);
        assert_int_equal(t.reason != NULL, ignored);
        n_ignored += ignored;
    }
    assert_int_equal(n_ignored, 2 * 4);
    assert_int_equal(info.n_missing, 0);
    assert_string_equal(t.name, "_mlp._mlp.2.bias");
    assert_int_equal(hstu_checkpoint_tensor(c, info.n_tensors, &t, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "tensor 48 does not exist: there are 48"));
    assert_int_equal(info.n_tables, 3);
    assert_ok(hstu_checkpoint_table(c, 2, &table, &err), &err);
    assert_string_equal(table.name, "video_id");
    assert_true(table.is_dynamic);
    assert_int_equal(table.world_size, 0); /* its files stand in another folder of the case */
    assert_int_equal(hstu_checkpoint_table(c, 3, &table, &err), HSTU_EINVAL);
    assert_non_null(strstr(hstu_checkpoint_config(c), "\"hidden_size\":\t32"));
    assert_null(strstr(hstu_checkpoint_config(c), "contextual_mask")); /* no tensor tells */
    hstu_checkpoint_close(c);

    c = open_checkpoint(golden_path("ranking/c0_hd32_d24_pclamp_2rank", "checkpoint"), NULL);
    assert_ok(hstu_checkpoint_table(c, 0, &table, &err), &err);
    assert_false(table.is_dynamic);
    assert_int_equal(table.bytes, 233 * 24 * 4);
    assert_ok(hstu_checkpoint_table(c, 1, &table, &err), &err);
    assert_int_equal(table.rows, 153);
    assert_int_equal(table.dim, 24);
    assert_int_equal(table.bytes, 153 * 24 * 4);
    assert_int_equal(table.world_size, 2);
    hstu_checkpoint_close(c);

    char path[1024];
    (void)snprintf(path, sizeof path, "%s", golden_path("ranking/c6_fused_fp32", "checkpoint"));
    assert_int_equal(hstu_model_open(&model, path, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "a ranking checkpoint needs a configuration"));
    assert_non_null(strstr(err.msg, "contextual_mask has no default"));
    hstu_model_options options;
    hstu_model_options_init(&options);
    options.config = "kuairand_1k_ranking";
    (void)snprintf(
        path, sizeof path, "%s", golden_path("ranking/c6_fused_fp32", "checkpoint/torch_module/model.0.pth"));
    assert_int_equal(hstu_model_open(&model, path, &options, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "is one file of a checkpoint folder: name the folder"));
    assert_int_equal(hstu_model_open(&model, TEST_DATA, NULL, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "is a folder: expected a PyTorch"));
}

/* A folder with a configuration: its tables are held against it, and weights that only one side knows stand side by side. */
static void test_a_folder_and_its_configuration(void **state)
{
    scratch files;
    hstu_error err;
    hstu_tensor_info t;
    hstu_checkpoint_info info;
    hstu_checkpoint *c = NULL;
    char path[1024];
    (void)state;
    scratch_open(&files);
    (void)snprintf(path, sizeof path, "%s", golden_path("ranking/c6_fused_fp32", "checkpoint"));
    const char *config = ranking_config(&files, "ranking/c6_fused_fp32", "\"contextual_mask\": false, ", 0);
    c = open_checkpoint(path, config);
    hstu_checkpoint_get_info(c, &info);
    assert_int_equal(info.n_missing, 0);
    assert_int_equal(info.n_tables, 3);
    assert_non_null(strstr(hstu_checkpoint_config(c), "contextual_mask"));
    hstu_checkpoint_close(c);
    c = NULL;
    assert_int_equal(hstu_checkpoint_open(&c, path, "kuairand_27k_ranking", &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "have 275 rows, but kuairand_27k_ranking says 307 (or, as the reference, 291)"));
    assert_int_equal(hstu_checkpoint_open(&c, path, "ml-1m", &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "ml-1m is a configuration of the family \"retrieval\""));

    /* A weight of another name in the one file of a folder. */
    static const given tensors[] = {{"_hstu_block._attention_layers.0._linear_uvqk_weight", 8, 32},
        {"_hstu_block._attention_layers.0._linear_proj_weight", 8, 8},
        {"_hstu_block._attention_layers.0._linear_prj_bias", 8, 0},
        {"_hstu_block._preprocessor._positional_encoder._position_embeddings_weight", 4, 8},
        {"_mlp._mlp.0.weight", 3, 8}};
    scratch_mkdir(&files, "torch_module");
    write_file(scratch_path(&files, "torch_module/model.0.pth"), tensors, 5, NULL, NULL);
    c = open_checkpoint(files.folder, NULL);
    assert_ok(hstu_checkpoint_tensor(c, 2, &t, &err), &err);
    assert_int_equal(t.use, HSTU_TENSOR_EXTRA);
    assert_ok(hstu_checkpoint_tensor(c, 4, &t, &err), &err);
    assert_int_equal(t.use, HSTU_TENSOR_BOUND);
    hstu_checkpoint_close(c);
    remove_folder(files.folder);
}

static void test_missing_files(void **state)
{
    hstu_checkpoint *c = NULL;
    hstu_model *model = NULL;
    hstu_error err;
    (void)state;
    assert_int_equal(hstu_checkpoint_open(&c, "/nowhere/model.pt", NULL, &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, "/nowhere/model.pt"));
    assert_int_equal(hstu_model_open(&model, "/nowhere/model.pt", NULL, &err), HSTU_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pytorch_file),
        cmocka_unit_test(test_with_a_configuration),
        cmocka_unit_test(test_near_miss),
        cmocka_unit_test(test_other_families),
        cmocka_unit_test(test_configuration_in_the_file),
        cmocka_unit_test(test_a_folder),
        cmocka_unit_test(test_a_folder_and_its_configuration),
        cmocka_unit_test(test_missing_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
