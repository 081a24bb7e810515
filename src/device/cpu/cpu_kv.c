/* Storing keys and values in pages (device/kv.h): keys a panel at once, pairs of values that other calls share element by element.
 * Linear layers' tasks store what they have made; in kv_write a task is what one user writes of one head to some panels of one page. */
#include "base/error.h"
#include "base/half.h"
#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_users.h"

#include <stdalign.h>
#include <string.h>

/* An element takes 0.1 ns to move within L2 and 0.2 ns from L3. Below ALONE elements, 3 to 6 us, a region of threads (1.5
 * us, and lines from other cores) gives no more than it costs. A task has about TASK elements, at least a panel: 32
 * tokens of a head with 128 keys and 128 values, 0.8 to 1.6 us. So 2,054 tokens of four heads are 260 tasks, of which the busiest of 16 threads
 * has 17 where 16.25 would be even, and 102 tokens still 16. What a task begins anew in memory costs 8 % with 16
 * tokens, 5 % with 32 and 3 % with 64. Heads come last: a thread's run of tasks is one piece of k and v. */
enum { ALONE = 1 << 15, TASK = 1 << 13 };

/* Dimensions of a panel of float32 values on the stack; even, so that no pair is cut. */
enum { STRIP = 64 };

/* Tokens place .. place + n - 1 of a page, from matrix rows row ..; a task for each head. */
typedef struct kv_piece {
    char *page;
    int64_t place, n, row;
} kv_piece;

typedef struct kv_job {
    const hs_cpu_kernels *kernels;
    const hs_kv_write_args *a;
    const kv_piece *pieces;
} kv_job;

static int64_t written_rows(const hs_kv_write_args *a, int64_t user)
{
    return a->n_rows ? a->n_rows[user] : hs_user_rows(&a->users, user);
}

/* Lists what each user writes, in `pieces` unless it is NULL; returns how many. A piece begins in a page's token 0,
 * `step`, 2 `step` and so on, or with a user's first row. */
static int64_t list_pieces(const hs_kv_write_args *a, kv_piece *pieces)
{
    const int64_t page_tokens = a->kv.shape.page_tokens, panel = HS_KV_PANEL * (a->kv.shape.dqk + a->kv.shape.dv);
    const int64_t step = HS_KV_PANEL * hs_ceil_div_i64(TASK, panel);
    int64_t count = 0;
    for (int64_t b = 0; b < a->users.n_users; b++) {
        const int64_t rows = written_rows(a, b), position = a->position ? a->position[b] : 0;
        for (int64_t r = 0, n = 0; r < rows; r += n) {
            const int64_t place = (position + r) % page_tokens;
            n = hs_min_i64(hs_min_i64(page_tokens - place, step - place % step), rows - r);
            if (pieces)
                pieces[count] = (kv_piece){.page = a->kv.page[a->kv.first_page[b] + (position + r) / page_tokens],
                    .place = place,
                    .n = n,
                    .row = a->users.offset[b] + r};
            count++;
        }
    }
    return count;
}

hs_kv_run hs_cpu_kv_run(const hs_kv_write_args *a, int64_t row)
{
    const int64_t n_users = a->users.n_users;
    int64_t b = 0; /* the last user whose rows begin no later */
    for (int64_t end = n_users; end - b > 1;) {
        const int64_t middle = (b + end) / 2;
        if (a->users.offset[middle] <= row)
            b = middle;
        else
            end = middle;
    }
    if (n_users == 0 || row >= a->users.offset[n_users])
        return (hs_kv_run){.rows = INT64_MAX};
    const int64_t in = row - a->users.offset[b], left = written_rows(a, b) - in;
    if (left <= 0)
        return (hs_kv_run){.rows = hs_user_rows(&a->users, b) - in};
    const int64_t token = in + (a->position ? a->position[b] : 0), page_tokens = a->kv.shape.page_tokens;
    hs_kv_run run = {.page = a->kv.page[a->kv.first_page[b] + token / page_tokens], .place = token % page_tokens};
    run.rows = hs_min_i64(left, page_tokens - run.place);
    return run;
}

hs_claim_plan hs_cpu_kv_claim(const hs_kv_write_args *a, const hs_mat *out, int64_t row, int64_t col)
{
    const hs_kv_shape *s = &a->kv.shape;
    const bool keys = out->data == a->k.data;
    const int64_t width = keys ? s->dqk : s->dv, head = col / width, element = (int64_t)hs_kv_element_bytes(s);
    hs_claim_plan claim = {.rows = 0, .col = col % width, .width = width, .cols = HS_LINE / element};
    const hs_kv_run run = hs_cpu_kv_run(a, row);
    if (!run.page || width % claim.cols != 0)
        return claim;
    claim.place = run.place;
    claim.rows = run.rows;
    claim.at = keys ? hs_kv_keys(s, run.page, head) : hs_kv_values(s, run.page, head);
    claim.head_bytes = (int64_t)(keys ? hs_kv_key_bytes(s) : hs_kv_value_bytes(s));
    claim.group_bits = keys ? 4 : s->type == HS_BF16; /* a panel; a pair, or a token */
    claim.col_bytes = keys ? element << claim.group_bits : (int64_t)hs_kv_value_panel_bytes(s) / HS_KV_PANEL;
    claim.group_bytes = keys ? width * claim.col_bytes : HS_LINE;
    claim.lane_bytes = keys ? HS_LINE : (int64_t)hs_kv_value_panel_bytes(s);
    return claim;
}

/* What is written of one head at once: of the tokens of `piece` the dimensions from .. from + dims - 1, which stand in the matrix's
 * columns col .. Of bfloat16 pairs no other thread writes the same word, but for the other token's half of one of values. */
typedef struct kv_part {
    const hs_cpu_kernels *kernels;
    const hs_kv_shape *shape;
    const hs_mat *m;
    kv_piece piece;
    bool ends; /* of a pair whose even token is the last of them, the odd one becomes 0; else it is another part's */
    int64_t head, from, dims, col;
} kv_part;

/* A row's first element of the part; of a matrix of bfloat16 values, half of a word. */
static const void *row_of(const kv_part *p, int64_t row)
{
    const int64_t i = row * p->m->ld + p->col;
    return p->m->bf16 ? (const void *)(p->m->half + i) : (const void *)(p->m->data + i);
}

/* half[i] = element at + i of a row. */
static void halves_of(const kv_part *p, const void *row, int64_t at, int64_t n, uint16_t *half)
{
    if (p->m->bf16) {
        memcpy(half, (const uint16_t *)row + at, (size_t)n * sizeof *half);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        half[i] = hs_f32_to_bf16(((const float *)row)[at + i]);
}

/* The rows of the lanes first .. end - 1 of a panel, the first of which is `row`, from dimension `at` on. */
static void rows_of(
    const kv_part *p, int64_t row, int64_t first, int64_t end, int64_t at, const float *rows[HS_KV_PANEL])
{
    for (int64_t r = first; r < end; r++)
        rows[r] = (const float *)row_of(p, row + r - first) + at;
}

/* The keys of the lanes first .. end - 1 of a panel. Pairs of bfloat16 values move as floats do. */
static void write_lanes(const kv_part *p, char *keys, int64_t first, int64_t end, int64_t row)
{
    alignas(64) float panel[STRIP * HS_KV_PANEL];
    const bool is_f32 = p->shape->type == HS_F32;
    const float *rows[HS_KV_PANEL];
    if (is_f32 || p->m->bf16) {
        rows_of(p, row, first, end, 0, rows);
        p->kernels->pack_panel((float *)(void *)keys, rows, first, end, is_f32 ? p->dims : p->dims / 2);
        return;
    }
    uint32_t *pair = (uint32_t *)(void *)keys + first;
    for (int64_t from = 0; from < p->dims; from += STRIP) {
        const int64_t n = hs_min_i64(STRIP, p->dims - from);
        rows_of(p, row, first, end, from, rows);
        p->kernels->pack_panel(panel, rows, first, end, n);
        for (int64_t t = 0; t < n; t += 2, pair += HS_KV_PANEL) {
            const float *even = panel + t * HS_KV_PANEL + first;
            p->kernels->pair_bf16(pair, even, t + 1 < n ? even + HS_KV_PANEL : NULL, end - first);
        }
    }
}

/* The keys of one row of bfloat16 values whose pairs are no words: they are an odd number of dimensions, or begin with an odd column. */
static void write_odd_lane(const kv_part *p, char *keys, int64_t lane, int64_t row)
{
    const uint16_t *k = row_of(p, row);
    uint32_t *at = (uint32_t *)(void *)keys + lane;
    for (int64_t t = 0; t < p->dims; t += 2) {
        const uint32_t odd = t + 1 < p->dims ? k[t + 1] : 0;
        at[t / 2 * HS_KV_PANEL] = k[t] | odd << 16;
    }
}

/* Whether pairs are words of a row. */
static bool has_words(const kv_part *p)
{
    return !p->m->bf16 || (p->dims % 2 == 0 && p->m->ld % 2 == 0 && (uintptr_t)row_of(p, 0) % 4 == 0);
}

static void write_keys(const kv_part *p)
{
    const hs_kv_shape *s = p->shape;
    const kv_piece *piece = &p->piece;
    const size_t panel_bytes = hs_kv_key_bytes(s) / (size_t)(s->page_tokens / HS_KV_PANEL);
    char *keys = hs_kv_keys(s, piece->page, p->head) + (size_t)(p->from * HS_KV_PANEL) * hs_kv_element_bytes(s);
    const bool words = has_words(p);
    for (int64_t i = 0, end; i < piece->n; i = end) {
        const int64_t place = piece->place + i, lane = place % HS_KV_PANEL;
        char *at = keys + (size_t)(place / HS_KV_PANEL) * panel_bytes;
        end = hs_min_i64(i + HS_KV_PANEL - lane, piece->n);
        if (words)
            write_lanes(p, at, lane, lane + end - i, piece->row + i);
        for (int64_t r = i; !words && r < end; r++)
            write_odd_lane(p, at, lane + r - i, piece->row + r);
    }
}

/* The values of one row, from its place in the first panel on. */
static void write_row(const kv_part *p, char *panel, const float *v)
{
    int64_t o = 0;
    for (; o + HS_KV_PANEL <= p->dims; o += HS_KV_PANEL, panel += hs_kv_value_panel_bytes(p->shape))
        memcpy(panel, v + o, HS_KV_PANEL * sizeof *v);
    if (o < p->dims) {
        memset(panel, 0, HS_KV_PANEL * sizeof *v);
        memcpy(panel, v + o, (size_t)(p->dims - o) * sizeof *v);
    }
}

/* The values of one of a pair's tokens; the other one's are there already, or another thread writes them. */
static void write_half(const kv_part *p, char *panel, bool odd, const void *v)
{
    uint16_t half[HS_KV_PANEL];
    for (int64_t o = 0; o < p->dims; o += HS_KV_PANEL, panel += hs_kv_value_panel_bytes(p->shape)) {
        const int64_t there = hs_min_i64(HS_KV_PANEL, p->dims - o);
        halves_of(p, v, o, there, half);
        for (int64_t i = 0; i < there; i++)
            memcpy(panel + (size_t)(2 * i + odd) * sizeof *half, &half[i], sizeof *half);
    }
}

/* The values of both tokens of a pair; odd NULL: there is no such token yet. */
static void write_pair(const kv_part *p, char *panel, const void *even, const void *odd)
{
    const int64_t panel_words = (int64_t)(hs_kv_value_panel_bytes(p->shape) / sizeof(uint32_t));
    uint32_t *words = (uint32_t *)(void *)panel;
    if (p->m->bf16) {
        p->kernels->pairs->zip(words, panel_words, even, odd, p->dims);
        return;
    }
    for (int64_t o = 0; o < p->dims; o += HS_KV_PANEL, words += panel_words) {
        const int64_t there = hs_min_i64(HS_KV_PANEL, p->dims - o);
        p->kernels->pair_bf16(words, (const float *)even + o, odd ? (const float *)odd + o : NULL, there);
        memset(words + there, 0, (size_t)(HS_KV_PANEL - there) * sizeof *words);
    }
}

/* p->from is a multiple of HS_KV_PANEL. */
static void write_values(const kv_part *p)
{
    const kv_piece *piece = &p->piece;
    const int64_t row = piece->row, n = piece->n;
    const size_t line = HS_KV_PANEL * sizeof(float); /* a token, or a pair of them */
    char *at = hs_kv_values(p->shape, piece->page, p->head) +
               (size_t)(p->from / HS_KV_PANEL) * hs_kv_value_panel_bytes(p->shape);
    int64_t i = 0;
    if (p->shape->type == HS_F32) {
        at += (size_t)piece->place * line;
        for (; i < n; i++, at += line)
            write_row(p, at, row_of(p, row + i));
        return;
    }
    at += (size_t)(piece->place / 2) * line;
    if (piece->place % 2) {
        write_half(p, at, true, row_of(p, row));
        at += line;
        i = 1;
    }
    for (; i + 1 < n; i += 2, at += line)
        write_pair(p, at, row_of(p, row + i), row_of(p, row + i + 1));
    if (i < n && p->ends)
        write_pair(p, at, row_of(p, row + i), NULL);
    else if (i < n)
        write_half(p, at, false, row_of(p, row + i));
}

void hs_cpu_kv_store(const hs_cpu_kernels *kernels, const hs_kv_write_args *a, const hs_kv_run *run, bool keys,
    const hs_mat *m, int64_t col)
{
    const hs_kv_shape *s = &a->kv.shape;
    const int64_t width = keys ? s->dqk : s->dv;
    kv_part p = {.kernels = kernels,
        .shape = s,
        .m = m,
        .piece = {.page = run->page, .place = run->place, .n = m->rows},
        .ends = m->rows == run->rows}; /* a page ends with an odd token */
    for (; p.col < m->cols; p.col += p.dims) {
        p.head = (col + p.col) / width;
        p.from = (col + p.col) % width;
        p.dims = hs_min_i64(width - p.from, m->cols - p.col);
        if (keys)
            write_keys(&p);
        else
            write_values(&p);
    }
}

static void kv_write_task(void *context, int worker, int64_t index)
{
    (void)worker;
    const kv_job *job = context;
    const hs_kv_write_args *a = job->a;
    const int64_t n_heads = a->kv.shape.n_heads, head = index % n_heads;
    kv_part p = {.kernels = job->kernels,
        .shape = &a->kv.shape,
        .piece = job->pieces[index / n_heads], /* ends with an odd token, or the user's last */
        .ends = true,
        .head = head};
    p.m = &a->k;
    p.dims = a->kv.shape.dqk;
    p.col = head * p.dims;
    write_keys(&p);
    p.m = &a->v;
    p.dims = a->kv.shape.dv;
    p.col = head * p.dims;
    write_values(&p);
}

static hstu_status kv_write(hs_cpu *cpu, const hs_kv_write_args *a, hstu_error *err)
{
    const int64_t n_pieces = list_pieces(a, NULL), n_tasks = n_pieces * a->kv.shape.n_heads;
    kv_job job = {.kernels = cpu->kernels, .a = a};
    hs_cpu_space space;
    HS_TRY(hs_cpu_scratch(cpu, &space, (size_t)n_pieces * sizeof(kv_piece), 0, err));
    kv_piece *const pieces = (kv_piece *)(void *)space.shared;
    list_pieces(a, pieces);
    job.pieces = pieces;
    if (a->k.rows * (a->k.cols + a->v.cols) >= ALONE) {
        hs_cpu_pool_run_near(cpu->pool, n_tasks, kv_write_task, &job);
    } else {
        for (int64_t task = 0; task < n_tasks; task++)
            kv_write_task(&job, 0, task);
    }
    return HSTU_OK;
}

hstu_status hs_cpu_kv_write(hs_device *dev, const hs_kv_write_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    const hs_mat mat[] = {a->k, a->v};
    hs_mat wide[2];
    if (a->kv.shape.type == HS_BF16 && a->k.bf16 == a->v.bf16)
        return kv_write(cpu, a, err);
    HS_TRY(hs_cpu_widen(cpu, wide, mat, 2, err));
    hs_kv_write_args widened = *a;
    widened.k = wide[0];
    widened.v = wide[1];
    return kv_write(cpu, &widened, err);
}
