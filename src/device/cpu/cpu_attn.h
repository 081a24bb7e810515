/* What SiLU and softmax attention share: both products over keys and values in pages, bias rows, tasks; and what SiLU
 * attention in float32 and over bfloat16 values does. */
#ifndef HS_DEVICE_CPU_CPU_ATTN_H
#define HS_DEVICE_CPU_CPU_ATTN_H

#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_users.h"

typedef struct hs_attn_job {
    const hs_cpu_kernels *kernels;
    const hs_pair_kernels *pairs; /* where both sides are bfloat16 values, or NULL */
    hs_gemm_fn *product;          /* over pairs, or over the pages' type */
    int64_t row_tile;             /* rows to call it with */
    hs_mat out, q;
    const hs_kv_view *kv;
    const hs_jagged *users;
    const int64_t *candidates; /* or NULL */
    const int64_t *history;
    const hs_rel_bias *bias;
    const hs_user_task *tasks; /* [n_tasks] */
    int64_t n_tasks;
    bool in_turn;                     /* a thread takes neighbouring tasks */
    int64_t kept_rows, kept_segments; /* hs_attn_keep_segments's chunk and segments, or 0 */
    int64_t joins;                    /* of a task's head */
    hs_cpu_task_fn *join;
    size_t shared_floats;
    float *shared;
    _Atomic int64_t *made; /* [n_tasks][n_heads]: segments */
    hs_cpu_space space;
} hs_attn_job;

/* Rows first .. end - 1 of a user, all of one kind: causal ones see tokens up to themselves (row r is token before + r),
 * others all of the history. Row r is row at + r of the matrices. */
typedef struct hs_row_run {
    int64_t user, first, end;
    int64_t before, at;
    bool causal;
} hs_row_run;

enum { HS_ROW_CONTEXT, HS_ROW_CAUSAL, HS_ROW_CANDIDATE, HS_ROW_KINDS };

/* A task's contextual rows, causal rows and candidates. n_context as in hs_silu_attn_args. */
void hs_attn_runs(
    const hs_attn_job *job, const int64_t *n_context, const hs_user_task *task, hs_row_run runs[HS_ROW_KINDS]);
/* Tokens of the longest history of which there are rows. */
int64_t hs_attn_longest(const hs_attn_job *job);
/* How many of the user's tokens the run's rows see; its rows row .. row + rows - 1. */
int64_t hs_attn_run_sees(const hs_attn_job *job, const hs_row_run *run);
int64_t hs_attn_rows_see(const hs_attn_job *job, const hs_row_run *run, int64_t row, int64_t rows);

/* The sizes and pages of a call, and whether queries and weights are bfloat16 values; the rest is for the caller and
 * hs_attn_run. */
hs_attn_job hs_attn_job_of(const hs_cpu *cpu, const hs_mat *out, const hs_mat *q, const hs_kv_view *kv,
    const hs_jagged *users, const int64_t *history, const hs_rel_bias *bias, bool bf16);

/* Rows row .. row + rows - 1 of q for one head, as the left side of a product. */
hs_gemm hs_attn_queries(const hs_attn_job *job, int64_t row, int64_t rows, int64_t head);
/* The same of bfloat16 values, as g's rows, left and lda: in place where they are whole blocks of columns, else copied to `space`
 * [rows, hs_mat_half_ld(dqk)] with zeros behind. */
void hs_attn_half_queries(const hs_attn_job *job, int64_t row, int64_t rows, int64_t head, uint16_t *space, hs_gemm *g);

/* The same rows of the output, as its result. */
hs_gemm hs_attn_sums(const hs_attn_job *job, int64_t row, int64_t rows, int64_t head);

/* Elements of a left side of at most `rows` rows and k columns. */
size_t hs_attn_left_elements(int64_t rows, int64_t k);
/* Where products are of pairs: g's rows of a, k columns, become its left side, in `left`. */
void hs_attn_pack_left(const hs_attn_job *job, hs_gemm *g, int64_t k, uint16_t *left);

/* The end, at most `end`, of what one product can take of a user's tokens from `first` on: the rest of a page, or pages
 * from a whole one on. */
int64_t hs_attn_piece_end(const hs_kv_shape *s, int64_t first, int64_t end);

/* g's rows times the keys of tokens first .. end - 1 of a user: c[r, j - first] = a[r] . k[j]. The tokens lie in one
 * page, where first is a multiple of HS_KV_PAGE_STEP, or begin with a page. g holds c, a or left, their distances and rows.
 * With a left side c has whole panels of columns, of which the last may hold anything behind token end - 1. */
void hs_attn_dot_keys(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm g);
/* c[r] = the chain of a[r, j - first] * v[j] over the same tokens; it continues c's with `accumulate`. */
void hs_attn_add_values(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm g);

/* dst[j] = bias of a user's row, which is its token `token`, to token first + j, j < n. */
void hs_attn_bias_row(
    const hs_attn_job *job, float *dst, int64_t user, int64_t row, int64_t token, int64_t first, int64_t n);

/* g's right side is keys, or values, of the tokens first .. end - 1, which lie as hs_attn_dot_keys wants them. */
void hs_attn_keys(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm *g);
void hs_attn_values(const hs_attn_job *job, int64_t user, int64_t head, int64_t first, int64_t end, hs_gemm *g);

/* So little work that starting and joining threads costs more than it gives. */
bool hs_attn_alone(const hs_attn_job *job);

/* Under SiLU a row's sum over each segment of so many tokens, from token 0 on, is one of its own. */
enum { HS_ATTN_SEGMENT = 512 };
/* hs_attn_run is to give the tasks `shared` memory, [task][head][segment][chunk][dv], of tasks of at most `chunk` rows, and to run
 * `join` for every task, head, and `rows` of the task's rows. */
hstu_status hs_attn_keep_segments(
    hs_attn_job *job, int64_t chunk, int64_t n_segments, int64_t rows, hs_cpu_task_fn *join, hstu_error *err);
/* Its part for a task, head and segment. */
float *hs_attn_segment(const hs_attn_job *job, int64_t task, int64_t head, int64_t segment);
/* A segment of a task and head is there; until all of them are. */
void hs_attn_segment_made(const hs_attn_job *job, int64_t task, int64_t head);
void hs_attn_await_segments(const hs_attn_job *job, int64_t task, int64_t head);

/* Lists the tasks in shared scratch, with `floats` of scratch for each worker, and runs fn for `per_task` times as
 * many. Scratch is valid until the device's next call. */
hstu_status hs_attn_run(hs_cpu *cpu, hs_attn_job *job, int64_t chunk, size_t floats, int64_t per_task,
    hs_cpu_task_fn *fn, void *ctx, hstu_error *err);

#endif
