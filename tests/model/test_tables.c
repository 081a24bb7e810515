/* Ranking models from tensors in memory: tables, the prediction head, what contradicts the configuration; random tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/infer.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ENTRIES = 32, MAX_VALUES = 1024, D = 4, ITEMS = 3 };

/* A dictionary in memory; every floating tensor shows the same values. */
typedef struct made {
    hs_statedict dict;
    hs_entry entry[MAX_ENTRIES];
    char name[MAX_ENTRIES][128];
    float values[MAX_VALUES];
    int64_t keys[ITEMS];
} made;

static void put(made *m, const char *name, int rank, int64_t a, int64_t b)
{
    const size_t i = m->dict.n_entries++;
    assert_true(i < MAX_ENTRIES && a * b <= MAX_VALUES);
    (void)snprintf(m->name[i], sizeof m->name[i], "%s", name);
    m->entry[i] = (hs_entry){.group = "", .name = m->name[i]};
    m->entry[i].tensor = (hs_tensor){
        .dtype = HS_F32, .rank = rank, .shape = {a, b}, .stride = {rank == 2 ? b : 1, 1}, .data = m->values};
}

static hs_entry *entry(made *m, const char *part)
{
    for (size_t i = 0; i < m->dict.n_entries; i++) {
        if (strstr(m->entry[i].name, part))
            return &m->entry[i];
    }
    fail_msg("no tensor '%s'", part);
    return NULL;
}

static void drop(made *m, const char *part)
{
    hs_entry *gone = entry(m, part);
    m->dict.n_entries--;
    memmove(gone, gone + 1, (size_t)(&m->entry[m->dict.n_entries] - gone) * sizeof *gone);
}

/* One layer, D 4, one head of 2, a static action table of 5 rows, a dynamic item table of 3. */
static made *make_ranking(void)
{
    made *m = hs_calloc(1, sizeof *m);
    assert_non_null(m);
    m->dict.path = "test.safetensors";
    m->dict.entry = m->entry;
    for (int i = 0; i < MAX_VALUES; i++)
        m->values[i] = (float)(i % 13) * 0.125f;
    for (int i = 0; i < ITEMS; i++)
        m->keys[i] = 100 * i - 7;
    put(m, "_hstu_block._preprocessor._positional_encoder._position_embeddings_weight", 2, 8, D);
    put(m, "_hstu_block._attention_layers.0._linear_uvqk_weight", 2, D, 8);
    put(m, "_hstu_block._attention_layers.0._linear_proj_weight", 2, 2, D);
    put(m, "_hstu_block._attention_layers.0._output_layernorm_weight", 1, 2, 1);
    put(m, "_hstu_block._attention_layers.0._output_layernorm_bias", 1, 2, 1);
    put(m, "_mlp._mlp.0.weight", 2, 6, D);
    put(m, "_mlp._mlp.0.bias", 1, 6, 1);
    put(m, "_mlp._mlp.2.weight", 2, 8, 6);
    put(m, "_mlp._mlp.2.bias", 1, 8, 1);
    put(m, HS_TABLE_PREFIX "actions.weight", 2, 5, D);
    put(m, HS_TABLE_PREFIX "items.keys", 1, ITEMS, 1);
    m->entry[m->dict.n_entries - 1].tensor.dtype = HS_I64;
    m->entry[m->dict.n_entries - 1].tensor.data = m->keys;
    put(m, HS_TABLE_PREFIX "items.values", 2, ITEMS, D);
    return m;
}

static const char base_config[] =
    "\"family\": \"ranking\", \"num_attention_heads\": 1, \"max_history_seqlen\": 4, \"max_num_candidates\": 2, "
    "\"contextual_mask\": false, \"contextual\": [], \"item_feature\": \"item\", \"action_feature\": \"action\", "
    "\"feature_to_table\": {\"item\": \"items\", \"action\": \"actions\"}, "
    "\"tables\": [{\"name\": \"actions\", \"dynamic\": false}, {\"name\": \"items\", \"dynamic\": true}]";

static void parse(hs_config *c, const char *more)
{
    hstu_error err;
    char text[1024];
    (void)snprintf(text, sizeof text, "{%s%s}", base_config, more);
    if (hs_config_parse(c, text, strlen(text), HS_CONFIG_ANY, "mine.json", &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static hs_device *open_device(void)
{
    hstu_error err;
    hs_device *dev = NULL;
    assert_int_equal(hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = 1}, &err), HSTU_OK);
    return dev;
}

static hstu_status bind(made *m, hs_device *dev, const char *more, hs_model *out, hstu_error *err)
{
    hs_config c;
    const hs_recognised r = hs_family_recognise(&m->dict);
    assert_int_equal(r.family, HS_FAMILY_RANKING);
    parse(&c, more);
    return hs_model_bind(out, &c, dev, &(hs_model_source){.dict = &m->dict, .recognised = &r}, false, err);
}

static void test_sizes_come_from_tensors(void **state)
{
    (void)state;
    hstu_error err;
    hs_model model;
    made *m = make_ranking();
    hs_device *dev = open_device();
    if (bind(m, dev, "", &model, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    const hs_config *c = &model.config;
    assert_int_equal(c->item_embedding_dim, D);
    assert_int_equal(c->num_blocks, 1);
    assert_int_equal(c->dqk, 2);
    assert_int_equal(c->dv, 2);
    assert_int_equal(c->num_position_buckets, 8);
    assert_int_equal(c->attention_n, 12); /* 2 x (4 + 2), no contextual features */
    assert_int_equal(c->n_head, 2);
    assert_int_equal(c->head[0], 6);
    assert_int_equal(c->head[1], 8);
    assert_int_equal(c->num_tasks, 8);
    assert_false(c->learnable_input_layernorm);
    assert_true(c->learnable_output_layernorm);
    assert_false(c->add_uvqk_bias);
    assert_true(c->head_bias);
    assert_null(model.weight.ranking[0].in_norm_weight);
    assert_non_null(model.weight.ranking[0].out_norm_weight);
    assert_int_equal(c->table[0].rows, 5);

    assert_ptr_equal(hs_table_row(model.item_table, -7), m->values);
    assert_ptr_equal(hs_table_row(model.item_table, 193), m->values + 2 * D);
    assert_null(hs_table_row(model.item_table, 0));
    assert_ptr_equal(hs_table_row(model.action_table, 4), m->values + 4 * D);
    assert_null(hs_table_row(model.action_table, 5));
    assert_null(hs_table_row(model.action_table, -1));
    assert_int_equal(model.n_parameters, 8 * D + D * 8 + 2 * D + 2 + 2 + 6 * D + 6 + 8 * 6 + 8 + 5 * D + ITEMS * D);
    hs_model_free(&model);
    hs_device_close(dev);
    hs_free(m);
}

static void refused(made *m, const char *more, hstu_status expected, const char *mentions)
{
    hstu_error err;
    hs_model model;
    hs_device *dev = open_device();
    const hstu_status status = bind(m, dev, more, &model, &err);
    if (status != expected || !strstr(err.msg, mentions))
        fail_msg("found %d '%s', expected %d with '%s'", status, status ? err.msg : "", expected, mentions);
    hs_device_close(dev);
    hs_free(m);
}

static void test_contradictions(void **state)
{
    (void)state;
    refused(make_ranking(), ", \"prediction_head_arch\": [6, 7], \"num_tasks\": 7", HSTU_EINVAL,
        "prediction_head_arch[1] is 7");
    refused(make_ranking(), ", \"prediction_head_arch\": [8]", HSTU_EINVAL, "prediction_head_arch has 1 layer");
    refused(make_ranking(), ", \"kv_channels\": 3", HSTU_ESHAPE, "kv_channels 3");
    refused(make_ranking(), ", \"hidden_size\": 5", HSTU_EINVAL, "hidden_size is 5");
    refused(make_ranking(), ", \"learnable_input_layernorm\": true", HSTU_EINVAL, "learnable_input_layernorm");

    made *m = make_ranking();
    entry(m, "actions.weight")->tensor.shape[1] = D + 1;
    entry(m, "actions.weight")->tensor.stride[0] = D + 1;
    refused(m, "", HSTU_EINVAL, "table 'actions' has rows of 5 values");

    m = make_ranking();
    entry(m, "_mlp._mlp.0.weight")->tensor.shape[0] = 1 << 20;
    refused(m, "", HSTU_ESHAPE, "_mlp._mlp.0.weight");

    m = make_ranking();
    drop(m, "_mlp._mlp.0.weight");
    refused(m, "", HSTU_ESHAPE, "_mlp._mlp.0.weight");
}

static void test_table_tensors(void **state)
{
    (void)state;
    made *m = make_ranking();
    drop(m, "items.keys");
    refused(m, "", HSTU_ESHAPE, "lacks its tensor '_embedding_collection.items.keys'");
    m = make_ranking();
    drop(m, "actions.weight");
    refused(m, "", HSTU_ESHAPE, "lacks its tensor '_embedding_collection.actions.weight'");
    m = make_ranking();
    entry(m, "items.keys")->tensor.shape[0] = ITEMS - 1;
    refused(m, "", HSTU_ESHAPE, "expected one int64 key for each row");
    m = make_ranking();
    entry(m, "items.values")->tensor.dtype = HS_F16;
    refused(m, "", HSTU_ESHAPE, "expected rows of fp32 or bf16");
    m = make_ranking();
    m->keys[2] = m->keys[0];
    refused(m, "", HSTU_EFORMAT, "-7");
    m = make_ranking();
    entry(m, "items.values")->tensor.dtype = HS_BF16;
    refused(m, "", HSTU_EUNSUP, "all tables must have one type");
    m = make_ranking();
    put(m, HS_TABLE_PREFIX "stranger.weight", 2, 2, D);
    refused(m, "", HSTU_ESHAPE, "extra tensors: 1 (_embedding_collection.stranger.weight)");
    m = make_ranking();
    put(m, "module." HS_TABLE_PREFIX "actions.weight", 2, 5, D);
    refused(m, "", HSTU_ESHAPE, "'module._embedding_collection.actions.weight' are one");
}

/* A static table of the configuration has as many rows as it says, or as the reference's code gives it. */
static void test_rows(void **state)
{
    (void)state;
    hstu_error err;
    hs_config c;
    float values[5 * D] = {0};
    hs_table table[2] = {{0}};
    parse(&c, ", \"hidden_size\": 4");
    assert_int_equal(hs_table_make(&table[0], "actions", HS_F32, false, D, 1, &err), HSTU_OK);
    table[0].part[0] = (hs_table_part){.values = values, .n_rows = 5};
    assert_int_equal(hs_table_finish(&table[0], "here", &err), HSTU_OK);
    table[1] = (hs_table){.name = "items", .type = HS_F32, .dynamic = true};
    c.table[0].rows = 9;
    assert_int_equal(hs_tables_settle(&c, table, "here", &err), HSTU_EINVAL);
    assert_string_equal(err.msg, "here: table 'actions' has 5 rows, but mine.json says 9");
    c.table[0].reference_rows = 5;
    assert_int_equal(hs_tables_settle(&c, table, "here", &err), HSTU_OK);
    assert_int_equal(c.table[0].rows, 5);
    assert_int_equal(c.table[0].reference_rows, 0);
    hs_table_close(&table[0]);
    hs_config_free(&c);
}

static hstu_status make_random(const hs_model_random_options *o, hs_device *dev, hs_model *out, hstu_error *err)
{
    hs_config c;
    parse(&c, ", \"hidden_size\": 4, \"num_layers\": 1, \"kv_channels\": 2, \"num_position_buckets\": 8, "
              "\"prediction_head_arch\": [6, 8]");
    c.table[0].rows = 5;
    return hs_model_random(out, &c, dev, o, err);
}

static void test_random(void **state)
{
    (void)state;
    hstu_error err;
    hs_model a, b;
    hs_device *dev = open_device();
    const hs_model_random_options o = {.seed = 3, .n_items = 7, .n_users = 2};
    assert_int_equal(make_random(&o, dev, &a, &err), HSTU_OK);
    assert_int_equal(make_random(&o, dev, &b, &err), HSTU_OK);
    for (int64_t id = 0; id < 7; id++) {
        const float *x = hs_table_row(a.item_table, id);
        assert_memory_equal(x, hs_table_row(b.item_table, id), D * sizeof(float));
        for (int i = 0; i < D; i++)
            assert_true(x[i] != 0.0f && fabsf(x[i]) <= 1.0f / sqrtf(7.0f));
    }
    assert_null(hs_table_row(a.item_table, 7));
    assert_non_null(hs_table_row(a.action_table, 4));
    assert_true(a.weight.ranking[0].out_norm_weight[1] == 1.0f && a.weight.ranking[0].out_norm_bias[1] == 0.0f);
    hs_model_free(&a);
    hs_model_free(&b);

    const hs_model_random_options nothing = {.seed = 3};
    assert_int_equal(make_random(&nothing, dev, &a, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "'items'"));
    const hs_model_random_options huge = {.n_items = (int64_t)1 << 36};
    assert_int_equal(make_random(&huge, dev, &a, &err), HSTU_ENOMEM);
    hs_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_come_from_tensors),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_table_tensors),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
