/* SiLU attention against the reference's own operator: tests/data/golden/ranking/attention_op, the causal cases without
 * window and target groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mapfile.h"
#include "op/op.h"

#include <math.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 3, ROWS = 26, HEADS = 2, DIM = 8, MAX_SEQ_LEN = 13, PAGE_TOKENS = 32 };

/* A safetensors file: a length of 8 bytes, a JSON header, the data. This module may not use src/file. */
typedef struct golden {
    hs_mapfile map;
    cJSON *header;
    uint64_t header_bytes;
} golden;

static void golden_open(golden *g, const char *file)
{
    char path[1024];
    hstu_error err;
    (void)snprintf(path, sizeof path, "%s/golden/ranking/attention_op/%s", TEST_DATA, file);
    if (hs_mapfile_open(&g->map, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_true(g->map.size > sizeof g->header_bytes);
    memcpy(&g->header_bytes, g->map.data, sizeof g->header_bytes);
    assert_true(g->header_bytes < g->map.size - sizeof g->header_bytes);
    const char *text = (const char *)g->map.data + sizeof g->header_bytes;
    if (hs_json_parse(&g->header, text, (size_t)g->header_bytes, path, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
}

static void golden_close(golden *g)
{
    cJSON_Delete(g->header);
    hs_mapfile_close(&g->map);
}

/* Copies the tensor, which must have this type and many bytes. */
static void golden_read(const golden *g, const char *name, const char *type, void *out, size_t bytes)
{
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(g->header, name);
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(entry, "data_offsets");
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(entry, "dtype");
    int64_t begin = 0, end = 0;
    if (!dtype || strcmp(dtype->valuestring, type) != 0)
        fail_msg("the golden file has no tensor '%s' of type %s", name, type);
    assert_int_equal(hs_json_int(cJSON_GetArrayItem(offsets, 0), &begin, "begin", name, NULL), HSTU_OK);
    assert_int_equal(hs_json_int(cJSON_GetArrayItem(offsets, 1), &end, "end", name, NULL), HSTU_OK);
    assert_int_equal(end - begin, bytes);
    const size_t first = sizeof g->header_bytes + (size_t)g->header_bytes + (size_t)begin;
    assert_true(first + bytes <= g->map.size);
    memcpy(out, g->map.data + first, bytes);
}

typedef struct inputs {
    float q[ROWS * HEADS * DIM], k[ROWS * HEADS * DIM], v[ROWS * HEADS * DIM];
    int64_t offset[USERS + 1];
} inputs;

static void read_inputs(inputs *in)
{
    golden g;
    int32_t offset[USERS + 1];
    golden_open(&g, "inputs.safetensors");
    golden_read(&g, "q", "F32", in->q, sizeof in->q);
    golden_read(&g, "k", "F32", in->k, sizeof in->k);
    golden_read(&g, "v", "F32", in->v, sizeof in->v);
    golden_read(&g, "offsets", "I32", offset, sizeof offset);
    for (int b = 0; b <= USERS; b++)
        in->offset[b] = offset[b];
    golden_close(&g);
}

/* The rows of a pass with users first .. first + n_users - 1: histories, then candidates. */
typedef struct pass {
    int64_t n_users, n, history[USERS + 1], candidates[USERS + 1], length[USERS], first_page[USERS];
    int64_t place[ROWS]; /* of a row of the pass in the inputs */
} pass;

static pass make_pass(const inputs *in, int64_t first, int64_t n_users, const int64_t *n_candidates)
{
    pass p = {.n_users = n_users};
    for (int64_t b = 0; b < n_users; b++) {
        const int64_t base = in->offset[first + b], asked = n_candidates ? n_candidates[first + b] : 0;
        p.first_page[b] = b;
        p.length[b] = in->offset[first + b + 1] - base - asked;
        p.history[b + 1] = p.history[b] + p.length[b];
        p.candidates[b + 1] = p.candidates[b] + asked;
        for (int64_t r = 0; r < p.length[b]; r++)
            p.place[p.n++] = base + r;
    }
    for (int64_t b = 0; b < n_users; b++) {
        for (int64_t r = p.length[b]; r < in->offset[first + b + 1] - in->offset[first + b]; r++)
            p.place[p.n++] = in->offset[first + b] + r;
    }
    return p;
}

/* Rows of the inputs become a matrix of the pass. */
static hstu_status bring(hs_device *dev, const pass *p, const float *values, hs_mat out, hstu_error *err)
{
    const void *row[ROWS];
    for (int64_t r = 0; r < p->n; r++)
        row[r] = values + p->place[r] * HEADS * DIM;
    const hs_embed_args a = {.out = out, .row = row, .row_type = HS_F32, .scale = 1.0f};
    return hs_op_embed(dev, &a, err);
}

_Static_assert((int)DIM <= (int)HS_KV_PANEL, "a head's values are one panel");

/* What a case varies. */
typedef struct variant {
    const int64_t *n_context, *n_candidates; /* or NULL */
    float inv_n;
} variant;

/* The users' histories are written to a page each, then they and the candidates attend. */
static hstu_status run_users(
    hs_device *dev, const inputs *in, float *out, int64_t first, int64_t n_users, const variant *v, hstu_error *err)
{
    static alignas(64) char memory[USERS][HEADS * PAGE_TOKENS * (DIM + HS_KV_PANEL) * sizeof(float)];
    static float values[4][ROWS * HEADS * DIM];
    char *const page[USERS] = {memory[0], memory[1], memory[2]};
    const pass p = make_pass(in, first, n_users, v->n_candidates);
    const int64_t n_history = p.history[n_users], n_candidates = p.candidates[n_users];
    const hs_jagged users = {.n_users = n_users, .offset = p.history};
    const hs_pass_rows rows = {.users = users, .candidates = p.candidates};
    const hs_mat q = hs_mat_of(values[0], p.n, HEADS * DIM), k = hs_mat_of(values[1], p.n, HEADS * DIM);
    const hs_mat val = hs_mat_of(values[2], p.n, HEADS * DIM), result = hs_mat_of(values[3], p.n, HEADS * DIM);
    const hs_kv_write_args write = {
        .kv = {.shape = {.type = HS_F32, .page_tokens = PAGE_TOKENS, .n_heads = HEADS, .dqk = DIM, .dv = DIM},
            .page = page,
            .first_page = p.first_page},
        .k = hs_mat_rows(k, 0, n_history),
        .v = hs_mat_rows(val, 0, n_history),
        .users = users};
    const hs_silu_attn_args a = {.out = result,
        .q = q,
        .own_k = hs_mat_rows(k, n_history, n_candidates),
        .own_v = hs_mat_rows(val, n_history, n_candidates),
        .candidates = p.candidates,
        .kv = write.kv,
        .users = users,
        .history = p.length,
        .n_context = v->n_context ? &v->n_context[first] : NULL,
        .alpha = 1.0f / sqrtf((float)DIM),
        .inv_n = v->inv_n};
    HS_TRY(hs_op_begin(dev, &rows, err));
    HS_TRY(bring(dev, &p, in->q, q, err));
    HS_TRY(bring(dev, &p, in->k, k, err));
    HS_TRY(bring(dev, &p, in->v, val, err));
    HS_TRY(hs_op_kv_write(dev, &write, err));
    HS_TRY(hs_op_silu_attn(dev, &a, err));
    HS_TRY(hs_op_end(dev, result, err));
    for (int64_t r = 0; r < p.n; r++)
        memcpy(out + p.place[r] * HEADS * DIM, values[3] + r * HEADS * DIM, HEADS * DIM * sizeof *out);
    return HSTU_OK;
}

/* Users one by one, then together. */
static void check_device(
    hs_device *dev, const char *name, const inputs *in, const variant *v, const float *want, float tolerance)
{
    for (int together = 0; together < 2; together++) {
        float out[ROWS * HEADS * DIM];
        hstu_error err;
        for (int64_t b = 0; b < USERS; b += together ? USERS : 1) {
            if (run_users(dev, in, out, b, together ? USERS : 1, v, &err) != HSTU_OK)
                fail_msg("%s", err.msg);
        }
        for (int i = 0; i < ROWS * HEADS * DIM; i++) {
            if (!(fabsf(out[i] - want[i]) <= tolerance))
                fail_msg("%s on %s %s, element %d: got %.9g, expected %.9g", name, dev->name, dev->isa, i,
                    (double)out[i], (double)want[i]);
        }
    }
}

/* The devices that can be tried here: the CPU's kernels, and ONNX Runtime's own provider when it is found. */
typedef struct tried {
    hs_device *dev[6];
    int n;
} tried;

static void open_devices(tried *t)
{
    static const char *const isa[] = {"ref", "avx2", "avx512", "avx512bf16", "amx"};
    const hs_device_options cpu = {.name = "cpu", .threads = 2};
    const hs_device_options ort = {.name = "ort-cpu", .threads = 1, .compute = HS_F32};
    hstu_error err;
    t->n = 0;
    for (size_t s = 0; s < sizeof isa / sizeof *isa; s++) {
        assert_int_equal(setenv("HSTU_ISA", isa[s], 1), 0);
        t->n += hs_device_open(&t->dev[t->n], &cpu, &err) == HSTU_OK; /* else it needs what this processor lacks */
    }
    assert_true(t->n > 0);
    assert_int_equal(unsetenv("HSTU_ISA"), 0);
    const hstu_status status = hs_device_open(&t->dev[t->n], &ort, &err);
    if (status == HSTU_ENOENT)
        print_message("left out: device ort-cpu: %s\n", err.msg);
    else if (status != HSTU_OK)
        fail_msg("%s", err.msg);
    t->n += status == HSTU_OK;
}

static void check_case(const tried *t, const golden *expected, const inputs *in, const char *context_name,
    const char *candidates_name, const variant *v, int64_t n)
{
    char name[128];
    float want[ROWS * HEADS * DIM], largest = 0;
    (void)snprintf(name, sizeof name, "ctx_%s.tgt_%s.g1.wNone.N%d.causal.out", context_name, candidates_name, (int)n);
    golden_read(expected, name, "F32", want, sizeof want);
    for (int i = 0; i < ROWS * HEADS * DIM; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    assert_true(largest > 0);
    variant one = *v;
    one.inv_n = 1.0f / (float)(n > 0 ? n : MAX_SEQ_LEN);
    for (int i = 0; i < t->n; i++)
        check_device(t->dev[i], name, in, &one, want, (t->dev[i]->pads ? 1e-5f : 2e-6f) * largest);
}

static void test_attention(void **state)
{
    (void)state;
    static const char *const context_name[] = {"none", "tensor", "int2"};
    static const char *const candidates_name[] = {"none", "t304"};
    const int64_t n_context[][USERS] = {{0}, {2, 0, 3}, {2, 2, 2}}, n_candidates[][USERS] = {{0}, {3, 0, 4}};
    tried devices;
    inputs in;
    golden expected;
    open_devices(&devices);
    read_inputs(&in);
    golden_open(&expected, "expected.safetensors");
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < 2; t++) {
            const variant v = {
                .n_context = c > 0 ? n_context[c] : NULL, .n_candidates = t > 0 ? n_candidates[t] : NULL};
            const variant zeros = {.n_context = n_context[c], .n_candidates = n_candidates[t]};
            check_case(&devices, &expected, &in, context_name[c], candidates_name[t], &v, -1);
            check_case(&devices, &expected, &in, context_name[c], candidates_name[t], &zeros, 50);
        }
    }
    golden_close(&expected);
    for (int i = 0; i < devices.n; i++)
        hs_device_close(devices.dev[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
