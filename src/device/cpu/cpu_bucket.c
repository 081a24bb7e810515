/* Buckets of time differences (research HSTU): exact integer thresholds, found by the position of the highest bit. */
#include "device/cpu/cpu_bucket.h"

#include "base/error.h"
#include "device/cpu/cpu_int.h"
#include "device/cpu/cpu_users.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 64, N_THRESHOLDS = 103, TABLE_BITS = 45, MAX_PER_BIT = 3 };

/* THRESHOLD[b - 1] is the smallest d with trunc(logf(d) / 0.301f) >= b as PyTorch computes it on CPUs in float32. They end below 2^45. At most three lie in [2^e, 2^(e + 1)), since 0.301 * 3 > ln 2. */
static const int64_t THRESHOLD[N_THRESHOLDS] = {2, 2, 3, 4, 5, 7, 9, 12, 16, 21, 28, 38, 51, 68, 92, 124, 167, 226, 305,
    412, 557, 752, 1016, 1372, 1854, 2505, 3385, 4574, 6180, 8350, 11283, 15245, 20600, 27834, 37610, 50818, 68666,
    92782, 125367, 169397, 228891, 309280, 417901, 564672, 762990, 1030959, 1393042, 1882290, 2543367, 3436623, 4643595,
    6274467, 8478123, 11455709, 15479071, 20915478, 28261151, 38186755, 51598326, 69720053, 94206444, 127292700,
    171999192, 232406601, 314030161, 424319920, 573345376, 774710112, 1046794145, 1414438848, 1911204161, 2582433664,
    3489410432, 4714926848, 6370844929, 8608349696, 11631690241, 15716857344, 21236737025, 28695292928, 38773372928,
    52390873089, 70791081984, 95653629953, 129247899648, 174641078272, 235976794113, 318853627905, 430838267905,
    582153043969, 786609569792, 1062874873856, 1436167241729, 1940563755009, 2622104403969, 3543014178817,
    4787356827649, 6468712792065, 8740590059521, 11810374156289, 15958267133952, 21562972438529, 29136107077633};

void hs_bucket_index_init(hs_bucket_index *index)
{
    int b = 0;
    for (int bit = 0; bit < TABLE_BITS; bit++) {
        index->below[bit] = (uint8_t)b;
        for (int i = 0; i < MAX_PER_BIT; i++) {
            const bool inside = b < N_THRESHOLDS && THRESHOLD[b] < INT64_C(2) << bit;
            index->threshold[bit][i] = inside ? THRESHOLD[b] : INT64_MAX;
            b += inside;
        }
    }
}

/* |delta|; INT64_MIN, whose magnitude wraps to itself in int64 tensors and is then clamped to 1, gives 1. */
static int64_t magnitude(int64_t delta)
{
    return delta == INT64_MIN ? 1 : delta < 0 ? -delta : delta;
}

/* The bucket of d >= 0 before the clamp. */
static int64_t raw_bucket(const hs_bucket_index *index, int64_t d)
{
    if (d <= 1)
        return 0;
    const int bit = 63 - __builtin_clzll((uint64_t)d);
    if (bit >= TABLE_BITS)
        return (int64_t)(logf((float)d) / 0.301f);
    const int64_t *t = index->threshold[bit];
    return index->below[bit] + (d >= t[0]) + (d >= t[1]) + (d >= t[2]);
}

int64_t hs_bucket_of(const hs_bucket_index *index, int64_t delta, int64_t n_buckets)
{
    return hs_min_i64(raw_bucket(index, magnitude(delta)), n_buckets);
}

typedef struct bucket_job {
    const hs_time_bucket_args *a;
    const hs_user_task *tasks;
    hs_bucket_index index;
} bucket_job;

/* The user's t[j]: its own rows, then the query's time, then zeros. */
static int64_t time_at(const hs_time_bucket_args *a, int64_t user, int64_t rows, int64_t j)
{
    if (j < rows)
        return a->timestamp[a->users.offset[user] + j];
    return j == rows ? a->query_time[user] : 0;
}

static int64_t wrapping_sub(int64_t a, int64_t b)
{
    const uint64_t difference = (uint64_t)a - (uint64_t)b;
    int64_t out = 0;
    memcpy(&out, &difference, sizeof out);
    return out;
}

/* out[j] = bucket of |now - time[j]|, j < n. Times are mostly sorted, so neighbours mostly share a bucket: its bounds
 * [low, low + width) are kept and tried first. */
static void bucket_row(const bucket_job *job, uint8_t *out, int64_t now, const int64_t *time, int64_t n)
{
    uint64_t low = 0, width = 0;
    uint8_t bucket = 0;
    for (int64_t j = 0; j < n; j++) {
        const int64_t d = magnitude(wrapping_sub(now, time[j]));
        if ((uint64_t)d - low >= width) {
            const int64_t b = raw_bucket(&job->index, d);
            bucket = (uint8_t)hs_min_i64(b, job->a->n_buckets);
            low = b > 0 && b < N_THRESHOLDS ? (uint64_t)THRESHOLD[b - 1] : 0;
            width = b < N_THRESHOLDS ? (uint64_t)THRESHOLD[b] - low : 0;
        }
        out[j] = bucket;
    }
}

static void bucket_task(void *context, int worker, int64_t index)
{
    const bucket_job *job = context;
    const hs_time_bucket_args *a = job->a;
    const hs_user_task *task = &job->tasks[index];
    (void)worker;
    const int64_t rows = hs_user_rows(&a->users, task->user);
    const int64_t cols = a->all_columns ? a->n : rows;
    const int64_t first = a->first ? a->first[task->user] : 0;
    for (int64_t i = first > task->first ? first : task->first; i < task->end; i++) {
        uint8_t *out = a->out + a->out_offset[task->user] + (i - first) * cols;
        const int64_t now = time_at(a, task->user, rows, hs_min_i64(i + 1, a->n - 1));
        const int64_t made = a->all_columns ? rows : i + 1;
        bucket_row(job, out, now, a->timestamp + a->users.offset[task->user], made);
        memset(out + made, 0, (size_t)(rows - made));
        for (int64_t j = rows; j < cols; j++) {
            const int64_t padding = time_at(a, task->user, rows, j);
            bucket_row(job, out + j, now, &padding, 1);
        }
    }
}

hstu_status hs_cpu_time_bucket(hs_device *dev, const hs_time_bucket_args *a, hstu_error *err)
{
    hs_cpu *cpu = (hs_cpu *)dev;
    const int64_t n_tasks = hs_user_tasks_count(&a->users, NULL, CHUNK);
    hs_cpu_space space;
    HS_TRY(hs_cpu_scratch(cpu, &space, (size_t)n_tasks * sizeof(hs_user_task), 0, err));
    hs_user_task *const tasks = (hs_user_task *)(void *)space.shared;
    hs_user_tasks_list(tasks, &a->users, NULL, NULL, CHUNK);
    bucket_job job = {.a = a, .tasks = tasks};
    hs_bucket_index_init(&job.index);
    hs_cpu_pool_run(cpu->pool, n_tasks, bucket_task, &job);
    return HSTU_OK;
}
