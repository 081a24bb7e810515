/* SiLU attention against the reference's own operator: tests/data/golden/ranking/attention_op, the causal cases without
 * window and target groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

/* Rows of m from row `from` on. */
static hs_mat part_of(float *m, int64_t from, int64_t rows)
{
    return hs_mat_of(m + from * HEADS * DIM, rows, HEADS * DIM);
}

/* Users one by one: their history is written to a page, then it and their candidates attend. */
static hstu_status run_user(hs_device *dev, inputs *in, float *out, int64_t user, const int64_t *n_context,
    int64_t candidates, float inv_n, hstu_error *err)
{
    alignas(64) char memory[2 * HEADS * PAGE_TOKENS * DIM * sizeof(float)];
    char *page = memory;
    const int64_t first = 0, base = in->offset[user], history = in->offset[user + 1] - base - candidates;
    const int64_t rows[2] = {0, history}, others[2] = {0, candidates};
    const hs_kv_write_args write = {
        .kv = {.shape = {.type = HS_F32, .page_tokens = PAGE_TOKENS, .n_heads = HEADS, .dqk = DIM, .dv = DIM},
            .page = &page,
            .first_page = &first},
        .k = part_of(in->k, base, history),
        .v = part_of(in->v, base, history),
        .users = {.n_users = 1, .offset = rows}};
    hstu_status status = hs_op_kv_write(dev, &write, err);
    const hs_silu_attn_args a = {.out = part_of(out, base, history + candidates),
        .q = part_of(in->q, base, history + candidates),
        .own_k = part_of(in->k, base + history, candidates),
        .own_v = part_of(in->v, base + history, candidates),
        .candidates = others,
        .kv = write.kv,
        .users = write.users,
        .history = &history,
        .n_context = n_context ? &n_context[user] : NULL,
        .alpha = 1.0f / sqrtf((float)DIM),
        .inv_n = inv_n};
    return status == HSTU_OK ? hs_op_silu_attn(dev, &a, err) : status;
}

static void check_case(const golden *expected, inputs *in, const char *context_name, const int64_t *n_context,
    const char *candidates_name, const int64_t *n_candidates, int64_t n)
{
    char name[128];
    float want[ROWS * HEADS * DIM], out[ROWS * HEADS * DIM];
    (void)snprintf(name, sizeof name, "ctx_%s.tgt_%s.g1.wNone.N%d.causal.out", context_name, candidates_name, (int)n);
    golden_read(expected, name, "F32", want, sizeof want);
    float largest = 0;
    for (int i = 0; i < ROWS * HEADS * DIM; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    assert_true(largest > 0);
    const char *isa[] = {"ref", "avx2", "avx512"};
    int n_tried = 0;
    for (size_t s = 0; s < sizeof isa / sizeof isa[0]; s++) {
        hs_device *dev = NULL;
        hstu_error err;
        assert_int_equal(setenv("HSTU_ISA", isa[s], 1), 0);
        if (hs_device_open(&dev, "cpu", 2, &err) != HSTU_OK)
            continue; /* an instruction set that this processor lacks */
        for (int64_t b = 0; b < USERS; b++) {
            if (run_user(dev, in, out, b, n_context, n_candidates ? n_candidates[b] : 0,
                    1.0f / (float)(n > 0 ? n : MAX_SEQ_LEN), &err) != HSTU_OK)
                fail_msg("%s", err.msg);
        }
        for (int i = 0; i < ROWS * HEADS * DIM; i++) {
            if (!(fabsf(out[i] - want[i]) <= 2e-6f * largest))
                fail_msg(
                    "%s on %s, element %d: got %.9g, expected %.9g", name, isa[s], i, (double)out[i], (double)want[i]);
        }
        n_tried++;
        hs_device_close(dev);
    }
    assert_true(n_tried > 0);
}

static void test_attention(void **state)
{
    (void)state;
    static const char *const context_name[] = {"none", "tensor", "int2"};
    static const char *const candidates_name[] = {"none", "t304"};
    const int64_t n_context[][USERS] = {{0}, {2, 0, 3}, {2, 2, 2}}, n_candidates[][USERS] = {{0}, {3, 0, 4}};
    inputs in;
    golden expected;
    read_inputs(&in);
    golden_open(&expected, "expected.safetensors");
    for (int c = 0; c < 3; c++) {
        for (int t = 0; t < 2; t++) {
            check_case(&expected, &in, context_name[c], c > 0 ? n_context[c] : NULL, candidates_name[t],
                t > 0 ? n_candidates[t] : NULL, -1);
            check_case(&expected, &in, context_name[c], n_context[c], candidates_name[t], n_candidates[t], 50);
        }
    }
    golden_close(&expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
