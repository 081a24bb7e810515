/* The ranking family against the reference's own outputs, stage by stage: tests/data/golden/ranking. */
#include "engine/golden_ranking.h"

static void trace_ranking(ranking_case *c, stages *out)
{
    hstu_error err;
    hs_arena arena;
    ranking_places places;
    const hs_model *m = &c->model->model;
    const int64_t classes = m->config.head[m->config.n_head - 1];
    ranking_places_make(&places, &c->batch, &m->config);
    const hs_ranking_input input = {.batch = &c->batch.inference,
        .first = 0,
        .end = (int64_t)c->batch.inference.n_users,
        .item_first = places.item_first,
        .action_first = places.action_first,
        .context_first = places.context_first};
    const hs_trace trace = {.ctx = out, .stage = keep_stage};
    float *logits = hs_calloc((size_t)(c->batch.n_candidates * classes), sizeof *logits);
    hs_arena_init(&arena, (size_t)1 << 30);
    out->n = 0;
    assert_ok(hs_ranking_forward(m, c->session->whole.dev, &arena, &input,
                  hs_mat_of(logits, c->batch.n_candidates, classes), &trace, &err),
        &err);
    ranking_reorder(out, c, &input, NULL);
    hs_arena_free(&arena);
    hs_free(logits);
}

/* Every expected stage, in the order in which it is computed, within 2e-6 of its largest value. Returns how many. */
static int compare_ranking(const stages *s, const char *folder, const char *file)
{
    hs_statedict expected;
    int compared = 0;
    golden_open(&expected, folder, file);
    for (int i = 0; i < s->n; i++) {
        int64_t n = 0;
        const stage *found = &s->item[i];
        if (!hs_statedict_find(&expected, "", found->name))
            continue;
        float *values = golden_f32(&expected, found->name, &n);
        assert_int_equal(n, found->rows * found->cols);
        assert_close(found->name, found->data, values, n, golden_tolerance() * largest_magnitude(values, n));
        hs_free(values);
        compared++;
    }
    hs_statedict_close(&expected);
    return compared;
}

/* x0, per layer normed u v q k attn gated out, final_embedding, logits. */
static int all_stages(const ranking_case *c)
{
    return 3 + 8 * (int)c->model->model.config.num_blocks;
}

static void check_case(const char *folder, const ranking_options *o, const char *expected, int n_stages)
{
    ranking_case c;
    stages s;
    size_t n = 0;
    ranking_open(&c, folder, o);
    trace_ranking(&c, &s);
    assert_int_equal(compare_ranking(&s, folder, expected), n_stages ? n_stages : all_stages(&c));
    const stage *logits = find_stage(&s, "logits");
    float *inference = ranking_logits(&c, &c.batch.inference, &n);
    float *training = ranking_logits(&c, &c.batch.training, &n);
    assert_same("logits", inference, logits->data, n);
    assert_same("logits of the training layout", training, inference, n);
    hs_free(inference);
    hs_free(training);
    free_stages(&s);
    ranking_close(&c);
}

static void test_c6(void **state)
{
    (void)state;
    check_case("ranking/c6_fused_fp32", &(ranking_options){0}, "expected.safetensors", 0);
}

static void test_contextual_mask(void **state)
{
    (void)state;
    check_case("ranking/c6_fused_fp32", &(ranking_options){.more = "\"contextual_mask\": true, "},
        "expected_ctxmask_on.safetensors", 6);
}

static void test_other_divisors(void **state)
{
    (void)state;
    check_case("ranking/c6_fused_fp32", &(ranking_options){.n = 103}, "expected_N_plus1.safetensors", 2);
    check_case("ranking/c6_fused_fp32", &(ranking_options){.n = 94}, "expected_N_max_seqlen.safetensors", 2);
}

/* No contextual features, H d above D, positions past the table, a head of three layers, two ranks. */
static void test_c0(void **state)
{
    (void)state;
    check_case("ranking/c0_hd32_d24_pclamp_2rank", &(ranking_options){0}, "expected.safetensors", 0);
}

static void test_noln_noresidual(void **state)
{
    (void)state;
    check_case("ranking/noln_noresidual", &(ranking_options){0}, "expected.safetensors", 0);
}

/* The bfloat16 weights in fp32 arithmetic. */
static void test_bf16_weights(void **state)
{
    (void)state;
    check_case("ranking/c6_fused_bf16", &(ranking_options){0}, "expected.safetensors", 0);
}

/* bfloat16 arithmetic: no stage is farther from the fp32 outputs than twice what the reference's own bfloat16 run is. */
static void test_bf16(void **state)
{
    (void)state;
    const char *folder = "ranking/c6_fused_bf16";
    ranking_case c;
    stages s;
    hs_statedict exact, reference;
    if (!golden_on_cpu())
        return; /* other devices convert bfloat16 weights and compute in fp32: test_bf16_weights */
    ranking_open(&c, folder, &(ranking_options){.dtype = "bf16"});
    trace_ranking(&c, &s);
    golden_open(&exact, folder, "expected.safetensors");
    golden_open(&reference, folder, "expected_bf16_paged.safetensors");
    assert_int_equal(s.n, all_stages(&c));
    for (int i = 0; i < s.n; i++) {
        int64_t n = 0;
        double noise = 0.0;
        float *fp32 = golden_f32(&exact, s.item[i].name, &n);
        float *bf16 = golden_f32(&reference, s.item[i].name, &n);
        assert_int_equal(n, s.item[i].rows * s.item[i].cols);
        for (int64_t k = 0; k < n; k++)
            noise = fmax(noise, fabs((double)bf16[k] - (double)fp32[k]));
        assert_true(noise > 0.0);
        assert_close(s.item[i].name, s.item[i].data, fp32, n, 2.0 * noise);
        hs_free(fp32);
        hs_free(bf16);
    }
    hs_statedict_close(&exact);
    hs_statedict_close(&reference);
    free_stages(&s);
    ranking_close(&c);
}

/* The same weights as written by the reference's other layer classes: only torch_module differs. */
static void check_layout(const char *checkpoint, const float *expected, size_t n_expected)
{
    ranking_case c;
    scratch folder;
    hstu_error err;
    hstu_model_options options;
    hstu_model *model = NULL;
    hstu_session *session = NULL;
    char module[1024];
    scratch_open(&folder);
    (void)snprintf(module, sizeof module, "%s", golden_path("ranking/c6_fused_fp32", checkpoint));
    (void)strncat(module, "/torch_module", sizeof module - strlen(module) - 1);
    assert_int_equal(symlink(module, scratch_path(&folder, "torch_module")), 0);
    assert_int_equal(symlink(golden_path("ranking/c6_fused_fp32", "checkpoint/dynamicemb_module"),
                         scratch_path(&folder, "dynamicemb_module")),
        0);
    ranking_open(&c, "ranking/c6_fused_fp32", &(ranking_options){0});
    golden_options_init(&options);
    options.config = scratch_path(&c.files, "config.json");
    assert_ok(hstu_model_open(&model, folder.folder, &options, &err), &err);
    assert_ok(hstu_session_open(&session, model, &err), &err);
    float *logits = hs_calloc(n_expected, sizeof *logits);
    assert_ok(hstu_rank(session, &c.batch.inference, logits, n_expected, &err), &err);
    if (memcmp(logits, expected, n_expected * sizeof *logits) != 0)
        fail_msg("%s gives other logits than the FUSED checkpoint", checkpoint);
    hs_free(logits);
    hstu_session_close(session);
    hstu_model_close(model);
    ranking_close(&c);
    remove_folder(folder.folder);
}

static void test_layouts(void **state)
{
    (void)state;
    ranking_case c;
    size_t n = 0;
    ranking_open(&c, "ranking/c6_fused_fp32", &(ranking_options){0});
    float *fused = ranking_logits(&c, &c.batch.inference, &n);
    check_layout("checkpoint_debug", fused, n);
    check_layout("checkpoint_native", fused, n);
    check_layout("checkpoint_native_tp2", fused, n);
    hs_free(fused);
    ranking_close(&c);
}

static void expect_refusal(const char *folder, const char *more, hstu_status expected, const char *mentions)
{
    hstu_error err;
    hstu_model_options options;
    hstu_model *model = NULL;
    scratch files;
    char path[1024];
    scratch_open(&files);
    hstu_model_options_init(&options);
    options.config = ranking_config(&files, folder, more, 0);
    (void)snprintf(path, sizeof path, "%s", golden_path(folder, "checkpoint"));
    const hstu_status status = hstu_model_open(&model, path, &options, &err);
    if (status != expected || !strstr(err.msg, mentions))
        fail_msg("found status %d, '%s'; expected %d with '%s'", status, status ? err.msg : "", expected, mentions);
    remove_folder(files.folder);
}

/* What the reference's code can do and none of its configurations asks for, and what nothing may guess. */
static void test_refusals(void **state)
{
    (void)state;
    const char *c6 = "ranking/c6_fused_fp32", *mask = "\"contextual_mask\": false, ";
    char more[128];
    expect_refusal(c6, "", HSTU_EINVAL, "contextual_mask");
    expect_refusal("ranking/premlp_blocks", mask, HSTU_EUNSUP, "item_embedding_dim");
    static const char *const refused[][2] = {{"\"is_causal\": false, ", "is_causal"},
        {"\"target_group_size\": 2, ", "target_group_size"}, {"\"max_attn_len\": 4, ", "max_attn_len"},
        {"\"item_embedding_dim\": 12, ", "item_embedding_dim"},
        {"\"contextual_embedding_dim\": 10, ", "contextual_embedding_dim"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        (void)snprintf(more, sizeof more, "%s%s", mask, refused[i][0]);
        expect_refusal(c6, more, HSTU_EUNSUP, refused[i][1]);
    }
}

/* Preprocessing MLPs are recognised by their tensors too. */
static void test_preprocessing_mlp(void **state)
{
    (void)state;
    hstu_error err;
    hstu_model *model = NULL;
    hstu_model_options options;
    hstu_model_options_init(&options);
    options.config = "kuairand_1k_ranking";
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", golden_path("ranking/premlp_blocks", "checkpoint"));
    assert_int_equal(hstu_model_open(&model, path, &options, &err), HSTU_EUNSUP);
    assert_non_null(strstr(err.msg, "_item_mlp"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_c6),
        cmocka_unit_test(test_contextual_mask),
        cmocka_unit_test(test_other_divisors),
        cmocka_unit_test(test_c0),
        cmocka_unit_test(test_noln_noresidual),
        cmocka_unit_test(test_bf16_weights),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_preprocessing_mlp),
    };
    return golden_main(tests);
}
