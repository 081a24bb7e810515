/* Every check of the op layer: a good call passes, and each single contradiction is HSTU_EINVAL naming the operation.
 *  */
#include "op_test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void check_refused(hstu_status status, const char *op, const char *part)
{
    assert_int_equal(status, HSTU_EINVAL);
    assert_int_equal(err.code, HSTU_EINVAL);
    char begin[64];
    (void)snprintf(begin, sizeof begin, "op %s: ", op);
    if (strncmp(err.msg, begin, strlen(begin)) != 0 || !strstr(err.msg, part))
        fail_msg("\"%s\" does not begin with \"%s\" and mention \"%s\"", err.msg, begin, part);
    memset(&err, 0, sizeof err);
}

/* In a copy `x` of the good arguments: makes one change, then expects the refusal. */
#define REFUSES(op, good, change, part)                                                                                \
    do {                                                                                                               \
        hs_##op##_args x = good;                                                                                       \
        change;                                                                                                        \
        check_refused(hs_op_##op(dev, &x, &err), #op, part);                                                           \
    } while (0)

static void test_pack_and_linear(void **state)
{
    (void)state;
    const float w[6] = {1, 2, 3, 4, 5, 6};
    hs_packed *packed = NULL;
    check_refused(hs_op_pack(dev, &packed, w, HS_F32, 0, 2, 2, 1, &err), "pack", "inputs");
    check_refused(hs_op_pack(dev, &packed, w, HS_F32, 3, -1, 2, 1, &err), "pack", "outputs");
    check_refused(hs_op_pack(dev, &packed, w, HS_F32, 3, 2, -2, 1, &err), "pack", "distance");
    check_refused(hs_op_pack(dev, &packed, w, HS_F16, 3, 2, 2, 1, &err), "pack", "fp16");
    check_refused(hs_op_pack(dev, &packed, NULL, HS_F32, 3, 2, 2, 1, &err), "pack", "weight");
    assert_null(packed);
    assert_int_equal(hs_op_pack(dev, &packed, w, HS_F32, 3, 2, 2, 1, &err), HSTU_OK);

    float in[6] = {1, 1, 1, 0, 1, 0}, out[4] = {0}, all[10] = {0};
    const hs_linear_args good = {.out = hs_mat_of(out, 2, 2), .x = hs_mat_of(in, 2, 3), .w = packed};
    assert_int_equal(hs_op_linear(dev, &good, &err), HSTU_OK);
    assert_true(out[0] == 9.0f && out[1] == 12.0f && out[2] == 3.0f && out[3] == 4.0f);
    REFUSES(linear, good, x.w = NULL, "weight");
    REFUSES(linear, good, x.x.cols = 2, "x must be [2, 3]");
    REFUSES(linear, good, x.x.data = NULL, "x is missing");
    REFUSES(linear, good, x.x.ld = 2, "impossible");
    REFUSES(linear, good, x.x.rows = -1, "impossible");
    REFUSES(linear, good, x.x.ld = INT64_MAX / 2, "impossible");
    REFUSES(linear, good, x.out.rows = 1, "out must be [2, 2]");
    REFUSES(linear, good, x.act = (hs_activation)99, "activation");
    REFUSES(linear, good, x.residual = hs_mat_of(out, 2, 1), "residual");
    REFUSES(linear, good, x.out.data = in + 2, "out and x overlap");
    REFUSES(linear, good, x.residual = hs_mat_of(out + 1, 2, 2), "out and residual overlap");
    REFUSES(linear, good, x.residual = hs_mat_cols(hs_mat_of(out, 2, 3), 0, 2), "out and residual overlap");

    const hs_kv_write_args stored = {.k = good.out, .v = good.out};
    REFUSES(linear, good, x.stored = &stored, "the pages' type must be fp32 or bf16, but is number 0");
    REFUSES(linear, good, x.stream = hs_mat_of(out, 2, 2), "stream and out overlap");
    REFUSES(linear, good, x.stream = hs_mat_of(in, 2, 2), "stream and x overlap");
    REFUSES(linear, good, x.stream = hs_mat_of(all, 1, 2), "stream must be [2, 2]");
    REFUSES(linear, good, x.stream = hs_mat_of(all, 2, 2); x.act = HS_ACT_SILU, "neither an activation nor a residual");
    REFUSES(linear, good, x.stream = hs_mat_of(all, 2, 2); x.residual = hs_mat_of(all + 4, 2, 2), "nor a residual");
    REFUSES(linear, good, x.next = hs_mat_of(out, 1, 2), "next must be [2, 2], but is [1, 2]");
    hs_linear_args slices = good; /* columns 0 .. 2 and 3 .. 4 of one matrix */
    slices.x = hs_mat_cols(hs_mat_of(all, 2, 5), 0, 3);
    slices.out = hs_mat_cols(hs_mat_of(all, 2, 5), 3, 2);
    slices.residual = slices.out;
    assert_int_equal(hs_op_linear(dev, &slices, &err), HSTU_OK);
    REFUSES(linear, slices, x.out = hs_mat_cols(hs_mat_of(all, 2, 5), 2, 2), "out and x overlap");
    hs_op_pack_free(dev, packed);
    hs_op_pack_free(dev, NULL);
}

static void test_embed(void **state)
{
    (void)state;
    float table[6] = {1, 2, 3, 4, 5, 6}, out[4];
    const int64_t position_id[2] = {0, 1}, bad[2] = {0, 3}, negative[2] = {-1, 0};
    const void *row[2] = {table + 4, NULL};
    const hs_embed_args good = {.out = hs_mat_of(out, 2, 2),
        .row = row,
        .row_type = HS_F32,
        .scale = 2,
        .position = table,
        .position_rows = 2,
        .position_id = position_id};
    assert_int_equal(hs_op_embed(dev, &good, &err), HSTU_OK);
    assert_true(out[0] == 11.0f && out[1] == 14.0f && out[2] == 3.0f && out[3] == 4.0f);
    REFUSES(embed, good, x.position_id = bad, "3");
    REFUSES(embed, good, x.position_id = negative, "-1");
    REFUSES(embed, good, x.row = NULL, "list of rows");
    REFUSES(embed, good, x.row_type = HS_F16, "fp32 or bf16");
    REFUSES(embed, good, x.scale = INFINITY, "scale must be finite");
    REFUSES(embed, good, x.position_id = NULL, "position");
    REFUSES(embed, good, x.position_rows = 1, "position");
    REFUSES(embed, good, x.out.ld = 1, "impossible");
    REFUSES(embed, good, x.position_rows = INT64_MAX, "rows");
    hs_embed_args no_position = good;
    no_position.position = NULL;
    no_position.position_id = NULL;
    assert_int_equal(hs_op_embed(dev, &no_position, &err), HSTU_OK);
    assert_true(out[0] == 10.0f && out[1] == 12.0f && out[2] == 0.0f && out[3] == 0.0f);
}

static void test_norms(void **state)
{
    (void)state;
    float in[4] = {1, 3, 2, 6}, out[12];
    const hs_layer_norm_args good = {.out = hs_mat_of(out, 2, 2), .x = hs_mat_of(in, 2, 2), .eps = 1e-6f};
    assert_int_equal(hs_op_layer_norm(dev, &good, &err), HSTU_OK);
    REFUSES(layer_norm, good, x.x.cols = 1, "x must be");
    REFUSES(layer_norm, good, x.add = hs_mat_of(in, 1, 2), "add must be");
    REFUSES(layer_norm, good, x.out.cols = 0, "columns");

    const hs_norm_gate_args gate = {
        .out = hs_mat_of(out, 2, 6), .u = hs_mat_of(in, 2, 2), .o = hs_mat_of(in, 2, 2), .eps = 1e-6f, .concat = true};
    assert_int_equal(hs_op_norm_gate(dev, &gate, &err), HSTU_OK);
    REFUSES(norm_gate, gate, x.concat = false, "out must be [2, 2]");
    REFUSES(norm_gate, gate, x.u.rows = 1, "u must be");
    REFUSES(norm_gate, gate, x.o.data = NULL, "o is missing");
    REFUSES(norm_gate, gate, x.u.data = out, "overlap");

    const hs_l2_norm_args l2 = {.out = hs_mat_of(in, 2, 2), .x = hs_mat_of(in, 2, 2), .eps = 1e-6f};
    assert_int_equal(hs_op_l2_norm(dev, &l2, &err), HSTU_OK);
    REFUSES(l2_norm, l2, x.x.rows = 1, "x must be");

    const int64_t row[2] = {1, 1}, bad[2] = {0, 2};
    const hs_gather_args gather = {.out = hs_mat_of(out, 2, 2), .x = hs_mat_of(in, 2, 2), .row = row};
    assert_int_equal(hs_op_gather(dev, &gather, &err), HSTU_OK);
    REFUSES(gather, gather, x.row = bad, "2");
    REFUSES(gather, gather, x.x.cols = 1, "x must be");
    REFUSES(gather, gather, x.out.data = in + 1, "overlap");
}

static void test_time_bucket(void **state)
{
    (void)state;
    uint8_t out[9];
    const int64_t offset[3] = {0, 2, 3}, falling[3] = {0, 4, 3}, late[3] = {1, 2, 3}, out_offset[2] = {0, 4};
    const int64_t negative[2] = {0, -1}, timestamp[3] = {10, 20, 30}, query_time[2] = {40, 50};
    const hs_time_bucket_args good = {.out = out,
        .out_offset = out_offset,
        .users = {.n_users = 2, .offset = offset},
        .timestamp = timestamp,
        .query_time = query_time,
        .n = 2,
        .n_buckets = 128};
    assert_int_equal(hs_op_time_bucket(dev, &good, &err), HSTU_OK);
    REFUSES(time_bucket, good, x.users.offset = falling, "fall");
    REFUSES(time_bucket, good, x.users.offset = late, "begin");
    REFUSES(time_bucket, good, x.users.offset = NULL, "offsets");
    REFUSES(time_bucket, good, x.users.n_users = -1, "users");
    REFUSES(time_bucket, good, x.n = 1, "rows");
    REFUSES(time_bucket, good, x.n_buckets = 256, "256");
    REFUSES(time_bucket, good, x.out = NULL, "out");
    REFUSES(time_bucket, good, x.out_offset = negative, "-1");
    REFUSES(time_bucket, good, x.query_time = NULL, "query_time");
    REFUSES(time_bucket, good, x.timestamp = NULL, "timestamp");
    REFUSES(time_bucket, good, x.first = late, "first row must be 0 to 1, but is 2");
    REFUSES(time_bucket, good, x.first = negative, "first row must be 0 to 1, but is -1");
    hs_time_bucket_args behind = good; /* all rows of both users are skipped */
    const int64_t all[2] = {2, 1};
    memset(out, 0xee, sizeof out);
    behind.first = all;
    assert_int_equal(hs_op_time_bucket(dev, &behind, &err), HSTU_OK);
    assert_true(out[0] == 0xee && out[4] == 0xee);
}

/* Two heads of one dimension, three users' worth of pages of which the second is missing. */
static _Alignas(64) char page_memory[2][2 * 32 * (1 + HS_KV_PANEL) * sizeof(float)];
static char *const pages[4] = {page_memory[0], NULL, page_memory[1], page_memory[1] + 4};
static const int64_t first_page[2] = {0, 2};
static const hs_kv_view view = {.shape = {.type = HS_F32, .page_tokens = 32, .n_heads = 2, .dqk = 1, .dv = 1},
    .page = pages,
    .first_page = first_page};

static void test_kv_write(void **state)
{
    (void)state;
    float m[3 * 4] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const int64_t offset[3] = {0, 2, 3}, short_offset[3] = {0, 2, 2}, missing[2] = {0, 4}, unaligned[2] = {0, 3};
    const int64_t negative[2] = {0, -1}, far[2] = {31, 0}, last[2] = {30, 31}, many[2] = {3, 1},
                  huge[2] = {INT64_MAX, 0};
    const hs_mat all = hs_mat_of(m, 3, 4);
    const hs_kv_write_args good = {.kv = view,
        .k = hs_mat_cols(all, 0, 2),
        .v = hs_mat_cols(all, 2, 2),
        .users = {.n_users = 2, .offset = offset}};
    assert_int_equal(hs_op_kv_write(dev, &good, &err), HSTU_OK);
    hs_kv_write_args at = good;
    at.position = last;
    assert_int_equal(hs_op_kv_write(dev, &at, &err), HSTU_OK);
    REFUSES(kv_write, good, x.kv.shape.type = HS_F16, "fp32 or bf16");
    REFUSES(kv_write, good, x.kv.shape.page_tokens = 0, "tokens in a page must be 32 to 65536, but is 0");
    REFUSES(kv_write, good, x.kv.shape.page_tokens = 48, "multiple of 32, but is 48");
    REFUSES(kv_write, good, x.kv.shape.page_tokens = 1 << 17, "but is 131072");
    REFUSES(kv_write, good, x.kv.shape.n_heads = 0, "heads");
    REFUSES(kv_write, good, x.kv.shape.dqk = 0, "dqk");
    REFUSES(kv_write, good, x.kv.shape.dv = INT64_MAX, "dv");
    REFUSES(kv_write, good, x.k.cols = 1, "k must be [3, 2]");
    REFUSES(kv_write, good, x.v.rows = 2, "v must be [3, 2]");
    REFUSES(kv_write, good, x.users.offset = short_offset, "end");
    REFUSES(kv_write, good, x.n_rows = many, "rows to write must be 0 to 2, but is 3");
    REFUSES(kv_write, good, x.n_rows = negative, "-1");
    REFUSES(kv_write, good, x.position = negative, "position");
    REFUSES(kv_write, good, x.position = huge, "position");
    REFUSES(kv_write, good, x.position = far, "page 1 of user 0 is missing");
    REFUSES(kv_write, good, x.kv.page = NULL, "list of pages");
    REFUSES(kv_write, good, x.kv.first_page = NULL, "first_page");
    REFUSES(kv_write, good, x.kv.first_page = negative, "first page");
    REFUSES(kv_write, good, x.kv.first_page = unaligned, "aligned to 64 bytes");
    hs_kv_write_args fewer = good; /* where no row is written no page is needed */
    const int64_t one[2] = {1, 0};
    fewer.position = far;
    fewer.n_rows = one;
    fewer.kv.first_page = missing;
    assert_int_equal(hs_op_kv_write(dev, &fewer, &err), HSTU_OK);
}

/* Layers whose results are keys and values. */
static void test_stored(void **state)
{
    (void)state;
    enum { LAYERS = 3 };
    const float w[2] = {1, 2};
    float x[3] = {1, 2, 3}, out[LAYERS][3 * 2] = {{0}};
    const int64_t offset[3] = {0, 2, 3}, far[2] = {31, 0};
    hs_packed *packed = NULL;
    assert_int_equal(hs_op_pack(dev, &packed, w, HS_F32, 1, 2, 2, 1, &err), HSTU_OK);
    hs_linear_args a[LAYERS];
    hs_kv_write_args stored = {.kv = view, .users = {.n_users = 2, .offset = offset}};
    for (int i = 0; i < LAYERS; i++)
        a[i] = (hs_linear_args){.out = hs_mat_of(out[i], 3, 2), .x = hs_mat_of(x, 3, 1), .w = packed};
    a[1].stored = a[2].stored = &stored;
    stored.k = a[2].out;
    stored.v = a[1].out;
    assert_int_equal(hs_op_linears(dev, a, LAYERS, &err), HSTU_OK);
    check_refused(hs_op_linears(dev, a, 2, &err), "linear", "but layer 1 has no partner");
    check_refused(hs_op_linears(dev, a + 2, 1, &err), "linear", "but layer 0 has no partner");
    a[0].stored = &stored;
    check_refused(hs_op_linears(dev, a, LAYERS, &err), "linear", "but layer 0 has no partner");
    a[0].stored = NULL;
    a[1].stored = &(hs_kv_write_args){.kv = view, .k = stored.k, .v = stored.v, .users = stored.users};
    check_refused(hs_op_linears(dev, a, LAYERS, &err), "linear", "but layer 1 has no partner");
    a[1].stored = &stored;
    stored.v.ld = 3;
    check_refused(hs_op_linears(dev, a, LAYERS, &err), "linear", "but layer 1 has no partner");
    stored.v.ld = 2;
    stored.position = far;
    check_refused(hs_op_linears(dev, a, LAYERS, &err), "linear", "page 1 of user 0 is missing");
    hs_op_pack_free(dev, packed);
}

static void test_attn(void **state)
{
    (void)state;
    float m[3 * 8] = {0}, position_w[7] = {0}, time_w[129] = {0};
    const uint8_t bucket[12] = {0};
    const int64_t offset[3] = {0, 2, 3}, short_offset[3] = {0, 2, 2}, bucket_offset[2] = {0, 4}, cols[2] = {2, 1};
    const int64_t few[2] = {1, 1}, wide[2] = {4, 4}, negative[2] = {0, -1}, longer[2] = {33, 1}, none[2] = {0, 0};
    hs_rel_bias bias = {.position_w = position_w,
        .n = 4,
        .time_w = time_w,
        .bucket = bucket,
        .bucket_offset = bucket_offset,
        .bucket_cols = cols};
    const hs_mat all = hs_mat_of(m, 3, 8);
    const hs_silu_attn_args good = {.out = hs_mat_cols(all, 6, 2),
        .q = hs_mat_cols(all, 0, 2),
        .kv = view,
        .users = {.n_users = 2, .offset = offset},
        .history = cols,
        .alpha = 1,
        .inv_n = 1,
        .bias = &bias};
    assert_int_equal(hs_op_silu_attn(dev, &good, &err), HSTU_OK);
    REFUSES(silu_attn, good, x.kv.shape.n_heads = 0, "heads");
    REFUSES(silu_attn, good, x.kv.shape.page_tokens = 33, "multiple of 32, but is 33");
    REFUSES(silu_attn, good, x.kv.shape.dqk = 2, "q must be [3, 4]");
    REFUSES(silu_attn, good, x.kv.shape.dv = 0, "dv");
    REFUSES(silu_attn, good, x.out.cols = 1, "out must be");
    REFUSES(silu_attn, good, x.out = x.q, "out and q overlap");
    REFUSES(silu_attn, good, x.out = hs_mat_cols(all, 1, 2), "out and q overlap");
    REFUSES(silu_attn, good, x.users.offset = short_offset, "end");
    REFUSES(silu_attn, good, x.history = NULL, "history is missing");
    REFUSES(silu_attn, good, x.history = few, "history must be 2 to");
    REFUSES(silu_attn, good, x.history = longer, "page 1 of user 0 is missing");
    REFUSES(silu_attn, good, x.kv.page = NULL, "list of pages");
    REFUSES(silu_attn, good, x.kv.first_page = NULL, "first_page");
    REFUSES(silu_attn, good, x.alpha = NAN, "alpha must be finite");
    REFUSES(silu_attn, good, x.inv_n = -INFINITY, "inv_n must be finite");
    REFUSES(silu_attn, good, x.n_context = wide, "contextual tokens must be 0 to 2, but is 4");
    REFUSES(silu_attn, good, x.n_context = negative, "contextual tokens must be 0 to 1, but is -1");
    REFUSES(silu_attn, good, bias.time_w = NULL, "time_w");
    bias.time_w = time_w;
    REFUSES(silu_attn, good, bias.n = 1, "history under a bias");
    bias.n = 4;
    REFUSES(silu_attn, good, bias.bucket_cols = few, "columns");
    bias.bucket_cols = cols;

    hs_silu_attn_args candidates = good;
    candidates.bias = NULL;
    const int64_t nobody[3] = {0, 0, 0}, one_row[3] = {0, 1, 1}, two_rows[3] = {0, 0, 2}, falling[3] = {0, 2, 1};
    candidates.history = none;
    candidates.users.offset = nobody;
    candidates.candidates = offset;
    candidates.own_k = hs_mat_cols(all, 2, 2);
    candidates.own_v = hs_mat_cols(all, 4, 2);
    assert_int_equal(hs_op_silu_attn(dev, &candidates, &err), HSTU_OK);
    REFUSES(silu_attn, candidates, x.own_k.data = NULL, "own_k is missing");
    REFUSES(silu_attn, candidates, x.own_v = (hs_mat){0}, "own_v must be");
    REFUSES(silu_attn, candidates, x.own_k.cols = 1, "own_k must be");
    REFUSES(silu_attn, candidates, x.own_v.rows = 2, "own_v must be");
    REFUSES(silu_attn, candidates, x.own_k.rows = 2, "must end at the number of rows, 2, but end at 3");
    REFUSES(silu_attn, candidates, x.candidates = falling, "must not fall");
    REFUSES(silu_attn, candidates, x.users.offset = one_row, "must end at the number of rows, 0, but end at 1");
    hs_silu_attn_args both = candidates; /* a row of history, two candidates */
    both.users.offset = one_row;
    both.candidates = two_rows;
    both.history = cols;
    both.own_k.rows = both.own_v.rows = 2;
    assert_int_equal(hs_op_silu_attn(dev, &both, &err), HSTU_OK);
    REFUSES(silu_attn, both, x.history = none, "history must be 1 to");
    REFUSES(silu_attn, candidates, x.out = hs_mat_cols(all, 3, 2), "out and own_k overlap");
    REFUSES(silu_attn, candidates, x.out = hs_mat_cols(all, 5, 2), "out and own_v overlap");
    REFUSES(silu_attn, candidates, x.bias = &bias, "without a bias");
    REFUSES(silu_attn, candidates, x.history = negative, "history must be 0 to");

    hs_softmax_attn_args softmax = {
        .out = good.out, .q = good.q, .kv = view, .users = good.users, .history = cols, .scale = 1, .bias = &bias};
    assert_int_equal(hs_op_softmax_attn(dev, &softmax, &err), HSTU_OK);
    REFUSES(softmax_attn, softmax, x.padded_n = 4, "columns");
    REFUSES(softmax_attn, softmax, x.history = few, "history must be 2 to");
    REFUSES(softmax_attn, softmax, x.scale = NAN, "scale must be finite");
    bias.bucket_cols = wide;
    softmax.padded_n = 4;
    softmax.users.n_users = 1; /* one user of 3 rows, whose buckets are 3 x 4 */
    const int64_t one[2] = {0, 3}, three[1] = {3};
    softmax.users.offset = one;
    softmax.history = three;
    assert_int_equal(hs_op_softmax_attn(dev, &softmax, &err), HSTU_OK);
    REFUSES(softmax_attn, softmax, x.padded_n = 2, "history");
    REFUSES(softmax_attn, softmax, x.padded_n = 5, "padded");
    REFUSES(softmax_attn, softmax, x.padded_n = -1, "padded");
}

static void test_topk(void **state)
{
    (void)state;
    float query[4] = {1, 0, 0, 1}, table[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, score[4];
    int64_t item[4], rank[2];
    const int64_t candidate[2] = {1, 4}, twice[2] = {4, 4}, outside[2] = {1, 5};
    const int64_t seen_offset[3] = {0, 2, 3}, seen[3] = {1, 2, 0}, unsorted[3] = {2, 1, 0}, bad_offset[3] = {0, 3, 2};
    const int64_t target[2] = {4, 1};
    const hs_topk_args good = {.query = hs_mat_of(query, 2, 2),
        .table = table,
        .table_type = HS_F32,
        .table_rows = 5,
        .candidate = candidate,
        .n_candidates = 2,
        .seen_offset = seen_offset,
        .seen = seen,
        .target = target,
        .k = 2,
        .item = item,
        .score = score,
        .rank = rank};
    assert_int_equal(hs_op_topk(dev, &good, &err), HSTU_OK);
    const int64_t want[4] = {4, -1, 4, 1};
    assert_memory_equal(item, want, sizeof want);
    assert_true(rank[0] == 1 && rank[1] == 2);
    hs_topk_args whole = good; /* id 0 is an item like any other */
    const float bias[5] = {100, 0, 0, 0, 0};
    whole.candidate = NULL;
    whole.n_candidates = 5;
    whole.seen = whole.seen_offset = NULL;
    whole.bias = bias;
    assert_int_equal(hs_op_topk(dev, &whole, &err), HSTU_OK);
    assert_true(item[0] == 0 && item[1] == 4 && item[2] == 0 && item[3] == 4);
    assert_true(score[0] == 101.0f && score[1] == 9.0f && score[2] == 102.0f && rank[0] == 2 && rank[1] == 5);
    REFUSES(topk, good, x.candidate = twice, "ascend");
    REFUSES(topk, good, x.candidate = outside, "5");
    REFUSES(topk, good, x.n_candidates = 6, "candidates");
    REFUSES(topk, good, x.candidate = NULL; x.first = 4, "first");
    REFUSES(topk, good, x.candidate = NULL; x.table_rows = x.n_candidates = HS_TOPK_MOST + 1, "to 4294967295, but");
    REFUSES(topk, good, x.seen = unsorted, "ascend");
    REFUSES(topk, good, x.seen = NULL, "seen");
    REFUSES(topk, good, x.seen_offset = NULL, "seen_offset");
    REFUSES(topk, good, x.seen_offset = bad_offset, "fall");
    REFUSES(topk, good, x.k = -1, "k must");
    REFUSES(topk, good, x.k = INT64_MAX, "k must");
    REFUSES(topk, good, x.item = NULL, "item");
    REFUSES(topk, good, x.score = NULL, "score");
    REFUSES(topk, good, x.rank = NULL, "rank");
    REFUSES(topk, good, x.table = NULL, "table");
    REFUSES(topk, good, x.table_type = HS_I64, "type");
    REFUSES(topk, good, x.query.cols = 0, "columns");
    REFUSES(topk, good, x.table_rows = -1, "rows");
}

/* No rows, users, candidates: nothing to do, and no pointer needed. */
static void test_empty(void **state)
{
    (void)state;
    const float w[2] = {1, 2};
    float row[2] = {3, 4};
    const int64_t offset[3] = {0, 0, 0};
    const hs_mat none = {.cols = 2, .ld = 2};
    hs_packed *packed = NULL;
    assert_int_equal(hs_op_pack(dev, &packed, w, HS_F32, 1, 2, 2, 1, &err), HSTU_OK);
    const hs_linear_args linear = {.out = none, .x = {.cols = 1, .ld = 1}, .w = packed};
    assert_int_equal(hs_op_linear(dev, &linear, &err), HSTU_OK);
    hs_op_pack_free(dev, packed);
    assert_int_equal(hs_op_embed(dev, &(hs_embed_args){.out = none, .row_type = HS_F32}, &err), HSTU_OK);
    assert_int_equal(hs_op_layer_norm(dev, &(hs_layer_norm_args){.out = none, .x = none}, &err), HSTU_OK);
    assert_int_equal(hs_op_norm_gate(dev, &(hs_norm_gate_args){.out = none, .u = none, .o = none}, &err), HSTU_OK);
    assert_int_equal(hs_op_gather(dev, &(hs_gather_args){.out = none, .x = none}, &err), HSTU_OK);
    assert_int_equal(hs_op_l2_norm(dev, &(hs_l2_norm_args){.out = none, .x = none}, &err), HSTU_OK);
    for (int64_t n_users = 0; n_users <= 2; n_users++) {
        const hs_jagged users = {.n_users = n_users, .offset = offset};
        const hs_kv_view kv = {.shape = view.shape};
        const hs_kv_write_args write = {.kv = kv, .k = none, .v = none, .users = users};
        assert_int_equal(hs_op_kv_write(dev, &write, &err), HSTU_OK);
        const hs_silu_attn_args silu = {.out = none, .q = none, .kv = kv, .users = users, .history = offset};
        assert_int_equal(hs_op_silu_attn(dev, &silu, &err), HSTU_OK);
        const hs_softmax_attn_args softmax = {
            .out = none, .q = none, .kv = kv, .users = users, .history = offset, .padded_n = 3};
        assert_int_equal(hs_op_softmax_attn(dev, &softmax, &err), HSTU_OK);
        const hs_time_bucket_args bucket = {.users = users, .n = 3, .n_buckets = 128, .out_offset = offset};
        assert_int_equal(hs_op_time_bucket(dev, &bucket, &err), HSTU_OK);
    }
    assert_int_equal(hs_op_topk(dev, &(hs_topk_args){.query = none, .table_type = HS_F32, .k = 3}, &err), HSTU_OK);
    int64_t item[3] = {7, 7, 7};
    float score[3] = {0};
    const hs_topk_args no_candidates = {
        .query = hs_mat_of(row, 1, 2), .table_type = HS_F32, .k = 3, .item = item, .score = score};
    assert_int_equal(hs_op_topk(dev, &no_candidates, &err), HSTU_OK);
    assert_true(item[0] == -1 && item[2] == -1 && score[0] < 0 && score[0] == score[2]);
}

static void set_one(void *ctx, int64_t i)
{
    ((int *)ctx)[i] = 1;
}

static void test_parallel(void **state)
{
    (void)state;
    int done[50] = {0};
    hs_op_parallel(dev, 50, set_one, done);
    for (int i = 0; i < 50; i++)
        assert_int_equal(done[i], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pack_and_linear), cmocka_unit_test(test_embed),
        cmocka_unit_test(test_norms), cmocka_unit_test(test_time_bucket), cmocka_unit_test(test_kv_write),
        cmocka_unit_test(test_stored), cmocka_unit_test(test_attn), cmocka_unit_test(test_topk),
        cmocka_unit_test(test_empty), cmocka_unit_test(test_parallel)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
