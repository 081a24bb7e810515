/* Recognising families, reading sizes from shapes, and binding tensors: bound, ignored, or an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/bind.h"
#include "model/infer.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_ENTRIES = 64, MAX_VALUES = 4096 };

/* A dictionary in memory; every tensor shows the same values. */
typedef struct made {
    hs_statedict dict;
    hs_entry entry[MAX_ENTRIES];
    char name[MAX_ENTRIES][128];
    float values[MAX_VALUES];
    uint16_t halves[MAX_VALUES];
} made;

static void put(made *m, const char *group, const char *name, int rank, int64_t a, int64_t b, int64_t c)
{
    const size_t i = m->dict.n_entries++;
    assert_true(i < MAX_ENTRIES);
    (void)snprintf(m->name[i], sizeof m->name[i], "%s", name);
    m->entry[i] = (hs_entry){.group = group, .name = m->name[i]};
    hs_tensor *t = &m->entry[i].tensor;
    *t = (hs_tensor){.dtype = HS_F32, .rank = rank, .shape = {a, b, c}, .data = m->values};
    int64_t stride = 1;
    for (int d = rank - 1; d >= 0; d--) {
        t->stride[d] = stride;
        stride *= t->shape[d];
    }
    assert_true(stride <= MAX_VALUES);
}

/* D 8, 2 heads of dqk 2 and dv 3, N 15 (max_sequence_length 4), 9 items, 2 blocks. */
static made *make_hstu(const char *group, const char *prefix)
{
    made *m = hs_calloc(1, sizeof *m);
    char name[128];
    assert_non_null(m);
    m->dict.path = "test.pt";
    m->dict.format = "made";
    m->dict.entry = m->entry;
    for (int i = 0; i < MAX_VALUES; i++)
        m->values[i] = (float)(i % 13) * 0.125f;
    (void)snprintf(name, sizeof name, "%s_attn_mask", prefix);
    put(m, group, name, 2, 15, 15, 1);
    (void)snprintf(name, sizeof name, "%s_embedding_module._item_emb.weight", prefix);
    put(m, group, name, 2, 10, 8, 1);
    (void)snprintf(name, sizeof name, "%s_input_features_preproc._pos_emb.weight", prefix);
    put(m, group, name, 2, 15, 8, 1);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "%s_hstu._attention_layers.%d._uvqk", prefix, i);
        put(m, group, name, 2, 8, 20, 1);
        (void)snprintf(name, sizeof name, "%s_hstu._attention_layers.%d._rel_attn_bias._ts_w", prefix, i);
        put(m, group, name, 1, 129, 1, 1);
        (void)snprintf(name, sizeof name, "%s_hstu._attention_layers.%d._rel_attn_bias._pos_w", prefix, i);
        put(m, group, name, 1, 29, 1, 1);
        (void)snprintf(name, sizeof name, "%s_hstu._attention_layers.%d._o.weight", prefix, i);
        put(m, group, name, 2, 8, 6, 1);
        (void)snprintf(name, sizeof name, "%s_hstu._attention_layers.%d._o.bias", prefix, i);
        put(m, group, name, 1, 8, 1, 1);
    }
    return m;
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

static void test_families(void **state)
{
    static const struct {
        const char *name, *other;
        hs_family family;
    } cases[] = {
        {"module._hstu._attention_layers.0._uvqk", NULL, HS_FAMILY_HSTU},
        {"module._orig_mod.model.attention_layers.1.in_proj_weight", NULL, HS_FAMILY_SASREC},
        {"_hstu_block._attention_layers.0._linear_uvqk_weight", "_mlp._mlp.0.weight", HS_FAMILY_RANKING},
        {"module.module._hstu_block._attention_layers.0._linear_uvqk_weight", NULL, HS_FAMILY_NV_RETRIEVAL},
        {"_hstu_transducer._stu_module._stu_layers.0._uvqk_weight", NULL, HS_FAMILY_DLRM_V3},
        {"layers.0.q_proj.weight", NULL, HS_FAMILY_DECODER},
        {"layers.0.q_proj.bias", NULL, HS_FAMILY_UNKNOWN},
        {"_hstu._attention_layers.x._uvqk", NULL, HS_FAMILY_UNKNOWN},
        {"attention_layers.0.in_proj_bias", NULL, HS_FAMILY_UNKNOWN},
    };
    static const char *const groups[] = {"model_state_dict", "model", "state_dict", ""};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t g = 0; g < 4; g++) {
            hs_entry e[2] = {{.group = groups[g], .name = cases[i].name}, {.group = groups[g], .name = cases[i].other}};
            const hs_statedict dict = {.entry = e, .n_entries = cases[i].other ? 2 : 1};
            const hs_recognised r = hs_family_recognise(&dict);
            assert_int_equal(r.family, cases[i].family);
            assert_int_equal(r.name != NULL, r.family != HS_FAMILY_UNKNOWN);
            const bool runs = r.family != HS_FAMILY_NV_RETRIEVAL && r.family != HS_FAMILY_DLRM_V3;
            assert_int_equal(r.not_supported != NULL, !runs && r.family != HS_FAMILY_UNKNOWN);
            if (r.family != HS_FAMILY_UNKNOWN)
                assert_string_equal(r.group, groups[g]);
        }
    }
    hs_entry e = {.group = "optimizer_state_dict", .name = "_hstu._attention_layers.0._uvqk"};
    const hs_statedict dict = {.entry = &e, .n_entries = 1};
    assert_int_equal(hs_family_recognise(&dict).family, HS_FAMILY_UNKNOWN);
}

static void test_sizes_from_shapes(void **state)
{
    hs_config c;
    hstu_error err;
    (void)state;
    made *m = make_hstu("model_state_dict", "module.");
    const hs_recognised r = hs_family_recognise(&m->dict);
    hs_config_init(&c, HS_CONFIG_RETRIEVAL, "tensors");
    assert_int_equal(hs_infer(&c, &m->dict, &r, &err), HSTU_OK);
    assert_int_equal(c.item_embedding_dim, 8);
    assert_int_equal(c.max_item_id, 9);
    assert_int_equal(c.num_blocks, 2);
    assert_int_equal(c.attention_n, 15);
    assert_int_equal(c.max_sequence_length, 4);
    assert_int_equal(c.num_time_buckets, 128);
    assert_false(c.concat_ua);
    assert_int_equal(c.dqk, 0); /* no tensor tells the number of heads */

    hs_config_init(&c, HS_CONFIG_RETRIEVAL, "heads");
    assert_int_equal(hs_config_settle(&c, "num_heads", 2, "test", &err), HSTU_OK);
    assert_int_equal(hs_infer(&c, &m->dict, &r, &err), HSTU_OK);
    assert_int_equal(c.dqk, 2);
    assert_int_equal(c.dv, 3);

    entry(m, "0._o.weight")->tensor.shape[1] = entry(m, "1._o.weight")->tensor.shape[1] = 18;
    hs_config_init(&c, HS_CONFIG_RETRIEVAL, "concat");
    assert_int_equal(hs_infer(&c, &m->dict, &r, &err), HSTU_OK);
    assert_true(c.concat_ua);
    hs_config_init(&c, HS_CONFIG_RETRIEVAL, "mine.json");
    assert_int_equal(hs_config_settle(&c, "concat_ua", 0, "test", &err), HSTU_OK);
    assert_int_equal(hs_infer(&c, &m->dict, &r, &err), HSTU_EINVAL);
    assert_non_null(strstr(err.msg, "mine.json: concat_ua is false, but the width of"));
    hs_free(m);
}

static void contradicts(const char *key, int64_t value, const char *part)
{
    hs_config c;
    hstu_error err = {0};
    made *m = make_hstu("", "");
    const hs_recognised r = hs_family_recognise(&m->dict);
    hs_config_init(&c, HS_CONFIG_RETRIEVAL, "mine.json");
    assert_int_equal(hs_config_settle(&c, key, value, "test", &err), HSTU_OK);
    assert_int_equal(hs_infer(&c, &m->dict, &r, &err), HSTU_EINVAL);
    if (!strstr(err.msg, part) || !strstr(err.msg, "mine.json") || !strstr(err.msg, key))
        fail_msg("%s: %s", key, err.msg);
    hs_free(m);
}

static void test_contradictions_name_both_sides(void **state)
{
    (void)state;
    contradicts("item_embedding_dim", 16, "'_embedding_module._item_emb.weight' of shape [10, 8] says 8");
    contradicts("max_item_id", 10, "[10, 8] says 9");
    contradicts("attention_n", 16, "'_input_features_preproc._pos_emb.weight' of shape [15, 8]");
    contradicts("num_blocks", 3, "says 2");
    contradicts("num_time_buckets", 64, "_ts_w' of shape [129] says 128");
    contradicts("main_module", HS_MODULE_SASREC, "\"SASRec\", but");
    contradicts("enable_relative_attention_bias", 0, "says true");
}

static void bind(made *m, hs_binding *b, hs_config *c)
{
    hstu_error err;
    const hs_recognised r = hs_family_recognise(&m->dict);
    hs_config_init(c, HS_CONFIG_RETRIEVAL, "mine.json");
    assert_int_equal(hs_config_settle(c, "num_heads", 2, "test", &err), HSTU_OK);
    assert_int_equal(hs_config_settle(c, "dqk", 2, "test", &err), HSTU_OK);
    assert_int_equal(hs_config_settle(c, "dv", 3, "test", &err), HSTU_OK);
    assert_int_equal(hs_infer(c, &m->dict, &r, &err), HSTU_OK);
    assert_int_equal(hs_binding_make(b, &m->dict, &r, c, NULL, &err), HSTU_OK);
}

static void test_every_tensor_has_a_use(void **state)
{
    hs_binding b;
    hs_config c;
    (void)state;
    made *m = make_hstu("model_state_dict", "module.");
    put(m, "optimizer_state_dict.state.0", "exp_avg", 2, 8, 20, 1);
    put(m, "", "epoch", 0, 1, 1, 1);
    bind(m, &b, &c);
    assert_int_equal(hs_binding_check(&b, &c, NULL), HSTU_OK);
    assert_int_equal(b.n_weights, 12);
    for (size_t i = 0; i < m->dict.n_entries; i++) {
        const bool weight =
            strcmp(m->entry[i].group, "model_state_dict") == 0 && !strstr(m->entry[i].name, "_attn_mask");
        assert_int_equal(b.use[i], weight ? HS_USE_BOUND : HS_USE_IGNORED);
        assert_int_equal(b.reason[i] != NULL, !weight);
    }
    hs_binding_free(&b);
    hs_free(m);
}

static void test_missing_and_extra_side_by_side(void **state)
{
    hs_binding b;
    hs_config c;
    hstu_error err;
    (void)state;
    made *m = make_hstu("", "");
    drop(m, "1._o.bias");
    put(m, "", "_hstu._attention_layers.1._o.bais", 1, 8, 1, 1);
    put(m, "ema_state_dict", "x", 1, 8, 1, 1);
    bind(m, &b, &c);
    assert_int_equal(b.n_missing, 1);
    assert_int_equal(b.n_extra, 2);
    assert_int_equal(hs_binding_check(&b, &c, &err), HSTU_ESHAPE);
    assert_non_null(strstr(err.msg, "test.pt: missing tensors: 1 (_hstu._attention_layers.1._o.bias)"));
    assert_non_null(strstr(err.msg, "extra tensors: 2 (_hstu._attention_layers.1._o.bais, x)"));
    hs_binding_free(&b);
    hs_free(m);
}

/* "model.a" and "a" are one weight after peeling: the second is extra, not a silent choice. */
static void test_a_weight_that_stands_twice(void **state)
{
    hs_binding b;
    hs_config c;
    (void)state;
    made *m = make_hstu("", "");
    put(m, "", "module._hstu._attention_layers.1._o.bias", 1, 8, 1, 1);
    bind(m, &b, &c);
    assert_int_equal(b.n_extra, 1);
    assert_int_equal(hs_binding_check(&b, &c, NULL), HSTU_ESHAPE);
    hs_binding_free(&b);
    hs_free(m);
}

static void shape_refused(const char *name, int rank, int64_t a, int64_t b, hs_dtype dtype, const char *part)
{
    hs_binding binding;
    hs_config c;
    hstu_error err = {0};
    made *m = make_hstu("", "");
    hs_tensor *t = &entry(m, name)->tensor;
    t->rank = rank;
    t->shape[0] = a;
    t->shape[1] = b;
    t->dtype = dtype;
    bind(m, &binding, &c);
    assert_int_equal(hs_binding_check(&binding, &c, &err), HSTU_ESHAPE);
    if (!strstr(err.msg, part))
        fail_msg("%s", err.msg);
    hs_binding_free(&binding);
    hs_free(m);
}

static void test_wrong_shapes_and_types(void **state)
{
    (void)state;
    shape_refused("1._uvqk", 2, 8, 24, HS_F32,
        "has shape [8, 24], but mine.json asks for [8, 20] (num_heads 2, dqk 2, dv 3, concat_ua false)");
    shape_refused("0._o.weight", 2, 6, 8, HS_F32, "has shape [6, 8], but mine.json asks for [8, 6]");
    shape_refused("1._o.bias", 2, 8, 1, HS_F32, "has shape [8, 1], but mine.json asks for [8]");
    shape_refused("1._o.bias", 1, 8, 1, HS_I64, "has type int64, expected a floating-point type");
}

static hstu_status make_model(made *m, hs_device *dev, hs_model *out, hstu_error *err)
{
    hs_config c;
    const hs_recognised r = hs_family_recognise(&m->dict);
    hs_config_init(&c, HS_CONFIG_RETRIEVAL, "mine.json");
    assert_int_equal(hs_config_settle(&c, "num_heads", 2, "test", err), HSTU_OK);
    return hs_model_bind(out, &c, dev, &(hs_model_source){.dict = &m->dict, .recognised = &r}, false, err);
}

static hs_device *open_device(void)
{
    hstu_error err;
    hs_device *dev = NULL;
    if (hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = 2}, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    return dev;
}

/* fp32 in place, half precision converted, a transposed view copied in order. */
static void test_weights_in_memory(void **state)
{
    hs_model model;
    hstu_error err;
    (void)state;
    hs_device *dev = open_device();
    made *m = make_hstu("", "");
    for (int i = 0; i < MAX_VALUES; i++)
        m->halves[i] = 0x3c00; /* 1.0 in fp16 */
    entry(m, "1._o.bias")->tensor.dtype = HS_F16;
    entry(m, "1._o.bias")->tensor.data = m->halves;
    hs_tensor *position = &entry(m, "_pos_emb.weight")->tensor;
    position->stride[0] = 1;
    position->stride[1] = 15;
    if (make_model(m, dev, &model, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_ptr_equal(model.weight.item.data, m->values);
    assert_null(model.weight.item.memory);
    assert_true(model.weight.hstu[1].o_bias[7] == 1.0f);
    assert_true(model.weight.position[1] == m->values[15]);
    assert_int_equal(model.n_parameters, 10 * 8 + 15 * 8 + 2 * (8 * 20 + 129 + 29 + 8 * 6 + 8));
    double sum = 0.0;
    for (int i = 0; i < 8; i++)
        sum += (double)m->values[24 + i] * (double)m->values[24 + i];
    assert_true(fabs((double)model.item_inv_norm[3] * sqrt(sum) - 1.0) < 1e-6);
    hs_model_free(&model);
    hs_free(m);
    hs_device_close(dev);
}

static void test_weights_that_are_not_finite(void **state)
{
    hs_model model;
    hstu_error err;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    hs_device *dev = open_device();
    for (size_t i = 0; i < 3; i++) {
        made *m = make_hstu("", "");
        m->values[5] = bad[i];
        assert_int_equal(make_model(m, dev, &model, &err), HSTU_EFORMAT);
        assert_non_null(strstr(err.msg, "'_embedding_module._item_emb.weight'"));
        assert_non_null(strstr(err.msg, "element 5"));
        hs_free(m);
    }
    hs_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_sizes_from_shapes),
        cmocka_unit_test(test_contradictions_name_both_sides),
        cmocka_unit_test(test_every_tensor_has_a_use),
        cmocka_unit_test(test_missing_and_extra_side_by_side),
        cmocka_unit_test(test_a_weight_that_stands_twice),
        cmocka_unit_test(test_wrong_shapes_and_types),
        cmocka_unit_test(test_weights_in_memory),
        cmocka_unit_test(test_weights_that_are_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
