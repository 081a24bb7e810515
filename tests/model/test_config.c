/* Configurations: every key, every preset, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/config.h"
#include "model/config_keys.h"

#include <stdio.h>
#include <string.h>

static hstu_status parse(hs_config *out, const char *text, hstu_error *err)
{
    memset(out, 0, sizeof *out);
    return hs_config_parse(out, text, strlen(text), HS_CONFIG_ANY, "test.json", err);
}

/* The text is refused with this status and a sentence that holds `part`. */
static void refused(const char *text, hstu_status status, const char *part)
{
    hs_config config;
    hstu_error err = {0};
    const hstu_status found = parse(&config, text, &err);
    if (found != status || !strstr(err.msg, part) || !strstr(err.msg, "test.json"))
        fail_msg("%s: status %d, \"%s\"; expected %d and \"%s\"", text, (int)found, err.msg, (int)status, part);
}

static void open_ok(hs_config *config, const char *name)
{
    hstu_error err;
    if (hs_config_open(config, name, HS_CONFIG_ANY, &err) != HSTU_OK)
        fail_msg("%s: %s", name, err.msg);
}

static void test_reference_files_are_read(void **state)
{
    static const char *const cases[] = {"base_h1_n71", "concat_ua_n71", "h2_n211_eval", "linact_none_layernorm_out_n71",
        "sasrec_h2_n71", "softmax_nobias_n71", "softmax_rel_bias_n71"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[512];
        hs_config c;
        (void)snprintf(path, sizeof path, "%s/golden/retrieval/%s/config.json", TEST_DATA, cases[i]);
        open_ok(&c, path);
        assert_int_equal(c.attention_n, c.max_sequence_length + 11);
        assert_int_equal(hs_config_require_complete(&c, NULL), HSTU_OK);
        hs_config_free(&c);
    }
}

static void test_trained_file(void **state)
{
    hs_config c;
    (void)state;
    open_ok(&c, TEST_DATA "/golden/trained/config.json");
    assert_int_equal(c.main_module, HS_MODULE_HSTU);
    assert_int_equal(c.max_sequence_length, 100);
    assert_int_equal(c.attention_n, 111);
    assert_int_equal(c.item_embedding_dim, 64);
    assert_int_equal(c.max_item_id, 7583);
    assert_int_equal(c.batch_size, 128); /* eval_batch_size */
    assert_int_equal(c.min_events, 3);
    assert_int_equal(c.item_id_offset, 1);
    assert_true(c.drop_duplicates);
    assert_null(c.candidate_id);
    assert_string_equal(c.dataset, "KuaiRand-Pure");
    hs_config_free(&c);
}

static void test_presets(void **state)
{
    hs_config c;
    size_t n = 0;
    (void)state;
    for (; hs_preset_name(n); n++) {
        assert_true(hs_preset_find(&c, hs_preset_name(n), HS_CONFIG_ANY));
        assert_ptr_equal(c.source, hs_preset_name(n));
        if (c.family == HS_CONFIG_RETRIEVAL)
            assert_int_equal(c.attention_n, c.max_sequence_length + 11);
        assert_non_null(c.dataset);
        hs_config_free(&c);
    }
    assert_int_equal(n, 14);

    assert_true(hs_preset_find(&c, "KuaiRand-GR", HS_CONFIG_ANY));
    assert_int_equal(c.item_embedding_dim, 512);
    assert_int_equal(c.num_blocks, 6);
    assert_int_equal(c.num_heads * c.dqk, 512);
    assert_int_equal(c.max_sequence_length, 128);
    assert_int_equal(c.protocol, HS_CONFIG_SESSIONS);
    assert_int_equal(c.batch_size, 2);
    assert_int_equal(c.top_k, 5);
    assert_int_equal(c.max_item_id, 0); /* the data decide */
    assert_int_equal(c.session_max_sequence_length, 256);

    assert_true(hs_preset_find(&c, "ml_1m_sasrec", HS_CONFIG_ANY));
    assert_int_equal(c.main_module, HS_MODULE_SASREC);
    assert_int_equal(c.ffn_hidden_dim, 50);
    assert_true(hs_preset_find(&c, "amzn-books", HS_CONFIG_ANY));
    assert_int_equal(c.shift_id_by, 1);
    assert_int_equal(c.max_item_id, 695762);
    assert_false(hs_preset_find(&c, "ml-1", HS_CONFIG_ANY));
    assert_false(hs_preset_find(&c, "ml-1m-", HS_CONFIG_ANY));
}

static void test_unknown_name(void **state)
{
    hs_config c;
    hstu_error err;
    (void)state;
    assert_int_equal(hs_config_open(&c, "kuairand_g", HS_CONFIG_ANY, &err), HSTU_ENOENT);
    assert_non_null(strstr(err.msg, "kuairand_gr"));
    assert_non_null(strstr(err.msg, "amzn-books-sasrec"));
}

static void test_unknown_keys(void **state)
{
    (void)state;
    refused("{\"num_head\": 4}", HSTU_EFORMAT, "nearest known key is 'num_heads'");
    refused("{\"top-k\": 4}", HSTU_EFORMAT, "'top_k'");
    refused("{\"dropout_rates\": 0.2}", HSTU_EFORMAT, "'dropout_rate'");
    refused("{\"zzzzzzzzzzzzzz\": 4}", HSTU_EFORMAT, "unknown key 'zzzzzzzzzzzzzz'");
}

static void test_wrong_values(void **state)
{
    (void)state;
    refused("[]", HSTU_EFORMAT, "one JSON object");
    refused("{\"num_heads\": 4", HSTU_EFORMAT, "not valid JSON");
    refused("{\"num_heads\": 4, \"num_heads\": 4}", HSTU_EFORMAT, "twice");
    refused("{\"num_heads\": 1.5}", HSTU_EFORMAT, "'num_heads' must be a whole number");
    refused("{\"num_heads\": null}", HSTU_EFORMAT, "num_heads");
    refused("{\"num_heads\": 0}", HSTU_EFORMAT, "but it is 0");
    refused("{\"item_embedding_dim\": 1000000}", HSTU_EFORMAT, "65536");
    refused("{\"concat_ua\": 1}", HSTU_EFORMAT, "true or false");
    refused("{\"layer_norm_eps\": 0}", HSTU_EFORMAT, "above 0");
    refused("{\"layer_norm_eps\": 1e-60}", HSTU_EFORMAT, "above 0"); /* 0 as float32 */
    refused("{\"layer_norm_eps\": \"1e-6\"}", HSTU_EFORMAT, "must be a number");
    refused("{\"main_module\": \"GRU4Rec\"}", HSTU_EUNSUP, "\"SASRec\", but it is \"GRU4Rec\"");
    refused("{\"normalization\": \"none\"}", HSTU_EUNSUP, "\"rel_bias\" or \"softmax_rel_bias\", but it is \"none\"");
    refused("{\"main_module\": 3}", HSTU_EFORMAT, "but it is 3");
    refused("{\"dataset\": 3}", HSTU_EFORMAT, "must be a string");
    refused("{\"num_time_buckets\": 256}", HSTU_EFORMAT, "1 .. 255");
}

static void test_fixed_values(void **state)
{
    hs_config c;
    (void)state;
    assert_int_equal(parse(&c, "{\"family\": \"retrieval\", \"time_bucket_divisor\": 0.301}", NULL), HSTU_OK);
    refused("{\"family\": \"generative\"}", HSTU_EUNSUP, "\"retrieval\"");
    refused("{\"family\": 1}", HSTU_EFORMAT, "'family' must be a string");
    refused("{\"time_bucket_divisor\": 0.3}", HSTU_EUNSUP, "0.301");
    refused("{\"interaction_module_type\": \"MoL\"}", HSTU_EUNSUP, "DotProduct");
    refused("{\"normalization\": \"rel_bias\", \"enable_relative_attention_bias\": false}", HSTU_EUNSUP, "rel_bias");
}

static void test_contradictions(void **state)
{
    (void)state;
    refused("{\"attention_n\": 71, \"N\": 72}", HSTU_EINVAL, "'attention_n' and 'N' are one thing");
    refused("{\"max_output_length\": 10, \"gr_output_length\": 10}", HSTU_EINVAL, "max_output_length 10");
    refused("{\"max_sequence_length\": 100, \"attention_n\": 99}", HSTU_EINVAL, "100 is above attention_n 99");
    refused("{\"attention_n\": 11}", HSTU_EINVAL, "leaves no event");
    refused("{\"max_item_id\": 9, \"candidate_ids\": \"1..10\"}", HSTU_EINVAL, "max_item_id is 9");
    refused("{\"max_item_id\": 9, \"candidate_ids\": [1, 10]}", HSTU_EINVAL, "10 is above max_item_id 9");
    refused("{\"candidate_ids\": [0]}", HSTU_EFORMAT, "no item id");
    refused("{\"candidate_ids\": []}", HSTU_EFORMAT, "empty");
    refused("{\"candidate_ids\": \"2..9\"}", HSTU_EFORMAT, "list of item ids");
    refused("{\"main_module\": \"SASRec\", \"item_embedding_dim\": 50, \"num_heads\": 4}", HSTU_EINVAL, "no multiple");
    refused("{\"num_heads\": 60000, \"dqk\": 2, \"dv\": 2}", HSTU_EUNSUP, "above 65536");
    refused("{\"max_sequence_length\": 50, \"sequence_length\": 51}", HSTU_EINVAL, "sequence_length 51");
}

static void test_derived_values(void **state)
{
    hs_config c;
    (void)state;
    assert_int_equal(parse(&c, "{\"max_sequence_length\": 60}", NULL), HSTU_OK);
    assert_int_equal(c.attention_n, 71);
    assert_int_equal(parse(&c, "{\"N\": 71, \"max_output_length\": 1}", NULL), HSTU_OK);
    assert_int_equal(c.max_sequence_length, 70);
    assert_int_equal(parse(&c, "{\"attention_n\": 71, \"max_sequence_length\": 71}", NULL), HSTU_OK);
    assert_int_equal(parse(&c, "{\"l2_norm_eps\": 1e-5}", NULL), HSTU_OK);
    assert_true(c.user_embedding_norm_eps == 1e-5);
    assert_int_equal(parse(&c, "{\"normalization\": \"hstu_rel_bias\"}", NULL), HSTU_OK);
    assert_int_equal(c.normalization, HS_NORM_REL_BIAS);
    assert_int_equal(parse(&c, "{\"candidate_ids\": [7, 3, 7]}", NULL), HSTU_OK);
    assert_int_equal(c.n_candidates, 2);
    assert_int_equal(c.candidate_id[0], 3);
    assert_int_equal(c.candidate_id[1], 7);
    hs_config_free(&c);
}

static void test_missing_size_is_named(void **state)
{
    hs_config c;
    hstu_error err;
    (void)state;
    assert_int_equal(
        parse(&c, "{\"max_sequence_length\": 60, \"item_embedding_dim\": 8, \"num_blocks\": 1}", NULL), HSTU_OK);
    assert_int_equal(hs_config_require_complete(&c, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "'num_heads'"));
}

static void test_settle_names_both_sides(void **state)
{
    hs_config c;
    hstu_error err;
    (void)state;
    assert_int_equal(parse(&c, "{\"max_sequence_length\": 60}", NULL), HSTU_OK);
    assert_int_equal(hs_config_settle(&c, "attention_n", 111, "tensor 'p' of shape [111, 8]", &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "max_sequence_length 60 + gr_output_length 10 + 1"));
    assert_non_null(strstr(err.msg, "tensor 'p' of shape [111, 8] says 111"));
    assert_int_equal(hs_config_settle(&c, "num_time_buckets", 64, "t", &err), HSTU_OK); /* was only a default */
    assert_int_equal(c.num_time_buckets, 64);
    assert_int_equal(hs_config_settle(&c, "num_time_buckets", 65, "t", &err), HSTU_EINVAL);
    assert_int_equal(hs_config_settle(&c, "num_blocks", 1 << 20, "t", &err), HSTU_EUNSUP);
}

/* Text -> configuration -> text -> configuration gives the same values, for every preset and a list of candidates. */
static void test_json_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; hs_preset_name(i); i++) {
        hs_config c, again;
        assert_true(hs_preset_find(&c, hs_preset_name(i), HS_CONFIG_ANY));
        char *text = hs_config_to_json(&c);
        assert_non_null(text);
        hstu_error err;
        if (parse(&again, text, &err) != HSTU_OK)
            fail_msg("%s: %s", hs_preset_name(i), err.msg);
        char *text_again = hs_config_to_json(&again);
        assert_string_equal(text, text_again);
        assert_int_equal(again.family, c.family);
        assert_int_equal(again.dqk, c.dqk);
        assert_int_equal(again.protocol, c.protocol);
        assert_string_equal(again.dataset, c.dataset);
        hs_free(text);
        hs_free(text_again);
    }
    hs_config c;
    assert_int_equal(parse(&c, "{\"candidate_ids\": [3, 7]}", NULL), HSTU_OK);
    char *text = hs_config_to_json(&c);
    assert_non_null(strstr(text, "[3, 7]"));
    hs_free(text);
    hs_config_free(&c);
}

/* Neighbours of 0.3, of the smallest eps and of 1: no bit is lost. */
static void test_json_keeps_every_bit(void **state)
{
    static const char *const values[] = {
        "0.3", "0.29999999999999993", "0.30000000000000004", "1.1754943508222878e-38", "0.99999999999999989", "1"};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        hs_config c, again;
        char given[64];
        (void)snprintf(given, sizeof given, "{\"layer_norm_eps\": %s}", values[i]);
        assert_int_equal(parse(&c, given, NULL), HSTU_OK);
        char *text = hs_config_to_json(&c);
        assert_int_equal(parse(&again, text, NULL), HSTU_OK);
        assert_memory_equal(&again.layer_norm_eps, &c.layer_norm_eps, sizeof(double));
        hs_free(text);
    }
}

static void test_key_table(void **state)
{
    int rows = 0;
    (void)state;
    for (; hs_key_table[rows].name; rows++) {
        for (int family = 0; hs_family_names[family]; family++) {
            if (hs_key_table[rows].families & hs_key_families(family))
                assert_int_equal(hs_key_find(hs_key_table[rows].name, family), rows);
        }
    }
    assert_true(rows < 128); /* hs_config.given has a bit for each */
    assert_int_equal(hs_key_find("N", HS_CONFIG_RETRIEVAL), hs_key_find("attention_n", HS_CONFIG_RETRIEVAL));
    assert_int_equal(hs_key_find("N", HS_CONFIG_RANKING), hs_key_find("scaling_seqlen", HS_CONFIG_RANKING));
    assert_int_equal(hs_key_find("attention_n", HS_CONFIG_RANKING), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_files_are_read),
        cmocka_unit_test(test_trained_file),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_unknown_name),
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_fixed_values),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_derived_values),
        cmocka_unit_test(test_missing_size_is_named),
        cmocka_unit_test(test_settle_names_both_sides),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_json_keeps_every_bit),
        cmocka_unit_test(test_key_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
