/* Configurations of the ranking and decoder families, and gin files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/config.h"
#include "model/gin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANKING "{\"family\": \"ranking\", "
#define SHAPE                                                                                                          \
    "\"hidden_size\": 32, \"num_heads\": 2, \"head_dim\": 16, \"num_layers\": 2, \"max_history\": 40, "                \
    "\"max_num_candidates\": 8, \"contextual\": [\"user_id\", \"age\"], \"item_feature\": \"video_id\", "              \
    "\"action_feature\": \"rating\", \"tables\": [{\"name\": \"user_id\", \"dynamic\": true, \"rows\": 9}, "           \
    "{\"name\": \"age\", \"rows\": 8}, {\"name\": \"video_id\", \"dynamic\": true}, {\"name\": \"action_weights\", "   \
    "\"rows\": 256}], \"feature_to_table\": {\"rating\": \"action_weights\"}, \"prediction_head_arch\": [24, 8]"
#define GIN                                                                                                            \
    "# a model\nimport something\nDatasetArgs.dataset_name = 'kuairand-1k'\r\nDatasetArgs.max_history_seqlen = "       \
    "4_096\n"                                                                                                          \
    "DatasetArgs.max_num_candidates = \\\n  100 # candidates\nNetworkArgs.num_layers = 2\nNetworkArgs.num_layers = "   \
    "3\n"                                                                                                              \
    "hstu.NetworkArgs.num_attention_heads = 4\nNetworkArgs.hidden_size = 512\nNetworkArgs.kv_channels = 128\n"         \
    "NetworkArgs.dtype_str = \"bfloat16\"\nNetworkArgs.scaling_seqlen = -1\nNetworkArgs.layer_type = 'native'\n"       \
    "NetworkArgs.embedding_backend = None\nRankingArgs.prediction_head_arch = [\n    512, # inner\n    8,\n]\n"        \
    "RankingArgs.prediction_head_bias = True\nRankingArgs.num_tasks = 8\nRankingArgs.eval_metrics = (\"AUC\",)\n"      \
    "TrainerArgs.eval_batch_size = 8\nTrainerArgs.whatever = 1\nOptimizerArgs.learning_rate = 1e-3\n"                  \
    "TensorModelParallelArgs.tensor_model_parallel_size = 2"

static void read_ok(hs_config *out, const char *text)
{
    hstu_error err = {0};
    if (hs_config_parse(out, text, strlen(text), HS_CONFIG_ANY, "test", &err) != HSTU_OK)
        fail_msg("%s: %s", text, err.msg);
}

static void refused(const char *text, hstu_status status, const char *part)
{
    hs_config config;
    hstu_error err = {0};
    const hstu_status found = hs_config_parse(&config, text, strlen(text), HS_CONFIG_ANY, "test", &err);
    if (found != status || !strstr(err.msg, part) || strncmp(err.msg, "test", 4) != 0)
        fail_msg("%s: status %d, \"%s\"; expected %d and \"%s\"", text, (int)found, err.msg, (int)status, part);
}

static void same_after_json(const hs_config *config)
{
    hs_config again;
    char *text = hs_config_to_json(config);
    assert_non_null(text);
    read_ok(&again, text);
    char *text_again = hs_config_to_json(&again);
    assert_string_equal(text, text_again);
    assert_int_equal(again.family, config->family);
    hs_free(text);
    hs_free(text_again);
    hs_config_free(&again);
}

static void test_ranking(void **state)
{
    hs_config c;
    hstu_error err;
    (void)state;
    read_ok(&c, RANKING SHAPE "}");
    assert_int_equal(c.attention_n, 2 + 2 * (40 + 8));
    assert_int_equal(c.dqk, 16);
    assert_int_equal(c.dv, 16);
    assert_int_equal(c.num_tasks, 8);
    assert_int_equal(c.num_position_buckets, 8192);
    assert_int_equal(c.item_id_offset, 0);
    assert_true(c.layer_norm_eps == 1e-5);
    assert_string_equal(c.action.table, "action_weights");
    assert_string_equal(c.context[1].table, "age");
    assert_int_equal(hs_config_find_table(&c, "age")->rows, 8);
    assert_int_equal(hs_config_find_table(&c, "user_id")->rows, 0);
    assert_null(hs_config_find_table(&c, "rating"));
    assert_int_equal(hs_config_require_complete(&c, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "'contextual_mask'"));
    same_after_json(&c);
    assert_int_equal(hs_config_settle(&c, "contextual_mask", 1, "test", &err), HSTU_OK);
    assert_int_equal(hs_config_require_complete(&c, &err), HSTU_OK);
    same_after_json(&c);
    assert_int_equal(hs_config_settle(&c, "num_position_buckets", 64, "t", &err), HSTU_OK);
    assert_int_equal(hs_config_settle(&c, "hidden_size", 64, "t", &err), HSTU_EINVAL);
    assert_int_equal(hs_config_settle(&c, "dv", 16, "t", &err), HSTU_EINVAL);
    read_ok(&c, RANKING SHAPE ", \"scaling_seqlen\": -1, \"disable_contextual_mask\": true, \"num_tasks\": 1}");
    assert_int_equal(c.attention_n, 98);
    assert_false(c.contextual_mask);
    assert_int_equal(hs_config_require_complete(&c, &err), HSTU_OK);
    read_ok(&c, RANKING SHAPE ", \"N\": 50}");
    assert_int_equal(c.attention_n, 50);
}

static void test_ranking_refusals(void **state)
{
    (void)state;
    refused(RANKING SHAPE ", \"num_tasks\": 4}", HSTU_EINVAL, "num_tasks 4");
    refused(RANKING SHAPE ", \"is_causal\": false}", HSTU_EUNSUP, "is_causal");
    refused(RANKING SHAPE ", \"target_group_size\": 2}", HSTU_EUNSUP, "target_group_size");
    refused(RANKING SHAPE ", \"item_embedding_dim\": 12}", HSTU_EUNSUP, "item_embedding_dim");
    refused(RANKING SHAPE ", \"contextual_embedding_dim\": 10}", HSTU_EUNSUP, "preprocessing MLP");
    refused(RANKING SHAPE ", \"max_attn_len\": 4}", HSTU_EUNSUP, "max_attn_len");
    refused(RANKING SHAPE ", \"interleave\": \"action,item\"}", HSTU_EUNSUP, "interleave");
    refused(RANKING "\"num_heads\": 2, \"num_attention_heads\": 4}", HSTU_EINVAL, "one thing");
    refused(RANKING "\"N\": {\"a\": 1}, \"scaling_seqlen\": {\"a\": 2}}", HSTU_EFORMAT, "whole number");
    refused(RANKING "\"contextual_mask\": true, \"disable_contextual_mask\": true}", HSTU_EINVAL, "disable_contextual");
    refused(
        RANKING "\"contextual\": [\"a\"], \"tables\": [{\"name\": \"b\"}]}", HSTU_EINVAL, "'a' looks up in table 'a'");
    refused(RANKING "\"contextual\": [\"a\", \"a\"]}", HSTU_EINVAL, "stands twice");
    refused(RANKING "\"contextual\": [\"a/b\"]}", HSTU_EFORMAT, "without '/'");
    refused(RANKING "\"contextual\": \"a\"}", HSTU_EFORMAT, "must be a list");
    refused(RANKING "\"tables\": [{\"name\": \"b\"}, {\"name\": \"b\"}]}", HSTU_EFORMAT, "stands twice");
    refused(RANKING "\"tables\": [{\"name\": \"b\", \"row\": 1}]}", HSTU_EFORMAT, "unknown key 'row'");
    refused(RANKING "\"tables\": [{\"rows\": 1}]}", HSTU_EFORMAT, "1 to 63 bytes");
    refused(RANKING "\"tables\": [{\"name\": \"b\", \"rows\": 0}]}", HSTU_EFORMAT, "'rows'");
    refused(RANKING "\"feature_to_table\": {\"a\": \"b\"}}", HSTU_EFORMAT, "names 'a'");
    refused(RANKING "\"prediction_head_arch\": []}", HSTU_EFORMAT, "empty");
    refused(RANKING "\"prediction_head_arch\": [0]}", HSTU_EFORMAT, "but it is 0");
    refused(RANKING "\"scaling_seqlen\": 0}", HSTU_EFORMAT, "but it is 0");
    refused(RANKING "\"protocol\": \"sessions\"}", HSTU_EINVAL, "protocol");
    refused(RANKING "\"dqk\": 2}", HSTU_EFORMAT, "'dqk' is a key of the family \"retrieval\"");
    refused("{\"kv_channels\": 2}", HSTU_EFORMAT, "'kv_channels' is a key of the family \"ranking\"");
    refused("{\"protocol\": \"ranking\"}", HSTU_EINVAL, "protocol");
    refused(RANKING "\"kv_chanels\": 2}", HSTU_EFORMAT, "'kv_channels'");
}

static void test_decoder(void **state)
{
    hs_config c;
    hstu_error err;
    (void)state;
    read_ok(&c,
        "{\"family\": \"decoder\", \"vocab_size\": 61, \"hidden_size\": 32, \"num_layers\": 3, \"num_heads\": 4, "
        "\"max_position_embeddings\": 64, \"max_cache_length\": 4096, \"top_k\": 5, \"pad_id\": 0, \"gelu\": \"erf\"}");
    assert_int_equal(c.max_item_id, 60);
    assert_int_equal(c.max_sequence_length, 64);
    assert_int_equal(c.ffn_hidden_dim, 128);
    assert_int_equal(c.item_id_offset, 0);
    assert_int_equal(c.protocol, HS_CONFIG_SESSIONS);
    assert_int_equal(hs_config_require_complete(&c, &err), HSTU_OK);
    assert_int_equal(hs_config_settle(&c, "vocab_size", 61, "t", &err), HSTU_OK);
    assert_int_equal(hs_config_settle(&c, "vocab_size", 62, "t", &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "vocab_size is 61"));
    same_after_json(&c);
    refused("{\"family\": \"decoder\", \"gelu\": \"tanh\"}", HSTU_EUNSUP, "gelu");
    refused("{\"family\": \"decoder\", \"vocab_size\": 1}", HSTU_EFORMAT, "but it is 1");
    refused("{\"family\": \"decoder\", \"max_sequence_length\": 5000}", HSTU_EINVAL, "max_position_embeddings 4096");
    assert_true(hs_preset_find(&c, "kuairand_gr", HS_CONFIG_DECODER));
    assert_int_equal(c.family, HS_CONFIG_DECODER);
    assert_int_equal(c.batch_size, 2);
    assert_int_equal(c.sequence_length, 128);
    assert_int_equal(c.max_sequence_length, 4096);
    same_after_json(&c);
    assert_true(hs_preset_find(&c, "kuairand_gr", HS_CONFIG_ANY));
    assert_int_equal(c.family, HS_CONFIG_RETRIEVAL);
}

static void test_ranking_presets(void **state)
{
    static const struct {
        const char *name;
        int64_t n, dim;
        bool mask;
    } cases[] = {{"kuairand_1k_ranking", 8398, 512, false}, {"kuairand-pure-ranking", 1866, 128, true},
        {"kuairand_27k_ranking", 16518, 128, true}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hs_config c;
        assert_true(hs_preset_find(&c, cases[i].name, HS_CONFIG_ANY));
        assert_int_equal(c.attention_n, cases[i].n);
        assert_int_equal(c.item_embedding_dim, cases[i].dim);
        assert_int_equal(c.contextual_mask, cases[i].mask);
        assert_int_equal(c.n_context, 6);
        assert_int_equal(c.n_tables, 8);
        assert_int_equal(hs_config_require_complete(&c, NULL), HSTU_OK);
        assert_int_equal(hs_config_find_table(&c, "action_weights")->rows, 256);
        for (int t = 0; t < c.n_tables; t++)
            assert_true(c.table[t].rows >= c.table[t].reference_rows);
        same_after_json(&c);
    }
}

static void test_gin(void **state)
{
    hs_config c;
    (void)state;
    read_ok(&c, GIN);
    assert_int_equal(c.family, HS_CONFIG_RANKING);
    assert_int_equal(c.attention_n, 8398);
    assert_int_equal(c.num_blocks, 3); /* the later binding */
    assert_int_equal(c.batch_size, 8);
    assert_int_equal(c.n_head, 2);
    assert_string_equal(c.dataset, "KuaiRand-1K");
    assert_true(c.contextual_mask);
    assert_int_equal(hs_config_require_complete(&c, NULL), HSTU_OK);
    same_after_json(&c);
    read_ok(&c, GIN "\nNetworkArgs.disable_contextual_mask = True\n");
    assert_false(c.contextual_mask);
    refused("# nothing\n", HSTU_EINVAL, "'DatasetArgs.dataset_name' is missing");
    refused("# c\n\nNetworkArgs.num_layer = 3\n", HSTU_EFORMAT,
        "test:3: unknown key 'NetworkArgs.num_layer'; the nearest "
        "known key is 'NetworkArgs.num_layers'");
    refused("NetworkArgs.num_layers = 'x'", HSTU_EFORMAT, "test:1: 'num_layers' must be a whole number");
    refused("NetworkArgs.target_group_size = 2", HSTU_EUNSUP, "test:1");
    refused("NetworkArgs.backbone = 'transformer'", HSTU_EUNSUP, "backbone");
    refused("RetrievalArgs.num_negatives = 128", HSTU_EUNSUP, "retrieval model");
    refused("BenchmarkDatasetArgs.max_num_candidates = 0", HSTU_EUNSUP, "BenchmarkDatasetArgs");
    refused("DatasetArgs.dataset_name = 'ml-25m'", HSTU_EUNSUP, "'ml-1m' or 'ml-20m', but it is 'ml-25m'");
    read_ok(&c, GIN "\nDatasetArgs.max_sequence_length = 4096");
    refused(GIN "\nDatasetArgs.max_sequence_length = 200", HSTU_EINVAL,
        "'DatasetArgs.max_sequence_length' and another binding of 'max_history_seqlen'");
}

/* Ratings are classes, not bits; MovieLens 1M alone has features of users. */
static void test_movielens(void **state)
{
    hs_config c;
    (void)state;
    assert_true(hs_preset_find(&c, "ml-20m-ranking", HS_CONFIG_ANY));
    assert_int_equal(c.attention_n, 441); /* 2 * (200 + 20) + 1 */
    assert_int_equal(c.item_embedding_dim, 128);
    assert_int_equal(c.dqk, 128);
    assert_int_equal(c.batch_size, 128);
    assert_true(c.contextual_mask);
    assert_int_equal(c.num_tasks, 1);
    assert_int_equal(c.n_head, 2);
    assert_int_equal(c.head[1], 10);
    assert_int_equal(c.n_context, 1);
    assert_string_equal(c.context[0].name, "user_id");
    assert_string_equal(c.item.name, "movie_id");
    assert_string_equal(c.action.name, "rating");
    assert_string_equal(c.action.table, "action_weights");
    assert_int_equal(c.n_tables, 3);
    assert_int_equal(hs_config_find_table(&c, "action_weights")->rows, 11);
    assert_true(hs_config_find_table(&c, "movie_id")->dynamic);
    assert_int_equal(hs_config_require_complete(&c, NULL), HSTU_OK);
    same_after_json(&c);
    read_ok(&c, "DatasetArgs.dataset_name = 'ml-1m'\nRankingArgs.num_tasks = 1\n");
    assert_string_equal(c.dataset, "ml-1m");
    assert_int_equal(c.n_context, 5);
    assert_string_equal(c.context[4].name, "zip_code");
    assert_int_equal(hs_config_find_table(&c, "zip_code")->rows, 3440);
    assert_int_equal(hs_config_find_table(&c, "occupation")->rows, 22);
    assert_true(hs_preset_find(&c, "ml-20m", HS_CONFIG_ANY));
    assert_int_equal(c.item_id_offset, 0);
}

static void test_gin_syntax(void **state)
{
    (void)state;
    refused("include 'a.gin'", HSTU_EUNSUP, "test:1: include");
    refused("a.b = %x", HSTU_EUNSUP, "macros");
    refused("x = 3", HSTU_EUNSUP, "macro");
    refused("\na.b = [@x()]", HSTU_EUNSUP, "test:2: references");
    refused("s/a.b = 3", HSTU_EUNSUP, "scoped");
    refused("a.b = {'x': 1}", HSTU_EUNSUP, "dictionaries");
    refused("a.b = [1, 2", HSTU_EFORMAT, "not closed");
    refused("a.b = [1 2]", HSTU_EFORMAT, "comma");
    refused("a.b = [,1]", HSTU_EFORMAT, "','");
    refused("a.b = [[[[[[[[[1]]]]]]]]]", HSTU_EFORMAT, "8 lists");
    refused("a.b = (1]", HSTU_EFORMAT, "found ']'");
    refused("a.b = 'x", HSTU_EFORMAT, "does not end");
    refused("a.b = 1 2", HSTU_EFORMAT, "the end of the line");
    refused("a.b = 0x10", HSTU_EFORMAT, "'0x10'");
    refused("a.b = 1e999", HSTU_EFORMAT, "'1e999'");
    refused("a.b =", HSTU_EFORMAT, "end of the line");
    refused("a..b = 1", HSTU_EFORMAT, "no Class.key");
    refused("a.b", HSTU_EFORMAT, "'='");
    refused("a.b = \xC3\xA9", HSTU_EFORMAT, "found the byte 0xc3");
    refused("a.b = 1 \x07", HSTU_EFORMAT, "found the byte 0x07");
}

static void test_gin_values(void **state)
{
    cJSON *root = NULL;
    hstu_error err = {0};
    const char *text = "\xEF\xBB\xBF"
                       "A.a = ('x\\'y', [1, -2.5e-1], (3), (), None)\nA.b = False\nA.b = .5\n";
    (void)state;
    if (hs_gin_parse(&root, text, strlen(text), "v", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    char *printed = cJSON_PrintUnformatted(root);
    assert_string_equal(printed, "{\"A.a\":{\"line\":1,\"value\":[\"x'y\",[1,-0.25],3,[],null]},"
                                 "\"A.b\":{\"line\":3,\"value\":0.5}}");
    cJSON_free(printed);
    cJSON_Delete(root);
}

/* Time grows with a list's length, not with its square: that would be half an hour here. */
static void test_gin_long_list(void **state)
{
    enum { ENTRIES = 500000 };
    static const char begin[] = "A.a = [";
    const size_t len = sizeof begin - 1 + 2 * ENTRIES;
    char *text = hs_alloc(len, 1);
    cJSON *root = NULL;
    hstu_error err = {0};
    (void)state;
    assert_non_null(text);
    memcpy(text, begin, sizeof begin - 1);
    for (size_t i = sizeof begin - 1; i < len; i += 2)
        memcpy(text + i, i + 2 < len ? "7," : "7]", 2);
    if (hs_gin_parse(&root, text, len, "v", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root->child, "value");
    assert_int_equal(cJSON_GetArraySize(list), ENTRIES);
    cJSON_Delete(root);
    hs_free(text);
}

static void open_golden(hs_config *out, const char *name)
{
    const char *shared = getenv("HSTU_SHARED");
    char path[1024];
    hstu_error err = {0};
    if (!shared) {
        print_message("SKIPPED: HSTU_SHARED does not name the references' files\n");
        skip();
    }
    (void)snprintf(path, sizeof path, "%s/golden/%s/config.json", shared, name);
    if (hs_config_open(out, path, HS_CONFIG_ANY, &err) != HSTU_OK)
        fail_msg("%s: %s", path, err.msg);
}

static void test_reference_files(void **state)
{
    static const struct {
        const char *name;
        int64_t n;
    } cases[] = {{"ranking/c6_fused_fp32", 102}, {"ranking/c6_fused_bf16", 102},
        {"ranking/c0_hd32_d24_pclamp_2rank", 96}, {"ranking/noln_noresidual", 102}};
    hs_config c;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_golden(&c, cases[i].name);
        assert_int_equal(c.family, HS_CONFIG_RANKING);
        assert_int_equal(c.attention_n, cases[i].n);
        assert_int_equal(c.dqk, 16);
        assert_int_equal(c.num_tasks, 8);
        same_after_json(&c);
    }
    assert_false(c.residual);
    open_golden(&c, "decoder/model_fp32");
    assert_int_equal(c.max_item_id, 60);
    same_after_json(&c);
}

static void test_reference_file_with_mlp(void **state)
{
    const char *shared = getenv("HSTU_SHARED");
    char path[1024];
    hs_config c;
    hstu_error err = {0};
    (void)state;
    if (!shared)
        skip();
    (void)snprintf(path, sizeof path, "%s/golden/ranking/premlp_blocks/config.json", shared);
    assert_int_equal(hs_config_open(&c, path, HS_CONFIG_RANKING, &err), HSTU_EUNSUP);
    assert_non_null(strstr(err.msg, "item_embedding_dim"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_ranking_refusals),
        cmocka_unit_test(test_decoder),
        cmocka_unit_test(test_ranking_presets),
        cmocka_unit_test(test_gin),
        cmocka_unit_test(test_movielens),
        cmocka_unit_test(test_gin_syntax),
        cmocka_unit_test(test_gin_values),
        cmocka_unit_test(test_gin_long_list),
        cmocka_unit_test(test_reference_files),
        cmocka_unit_test(test_reference_file_with_mlp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
