/* The best items of a whole table, on the device where it can: the table is a constant of a graph, in place, and so many places more
 * than asked for are taken as a query has seen items. Lists of candidates, ranks of targets, tables that no graph can hold, and
 * devices that decline the operators go to the CPU, which is counted. */
#include "device/npu/npu_int.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

#include <math.h>
#include <string.h>

enum { MOST_QUERIES = 64, MOST_PLACES = 1024, MOST_SEARCHES = 16 };
static const double MOST_BYTES = 1e9; /* of a table: a graph may not hold 2 GB */

/* A compiled search. */
typedef struct npu_search {
    struct npu_search *next;
    const float *table, *inv_norm, *bias;
    int64_t first, n, dim, queries, places;
    hs_graph *graph;
    hs_ort_session *session;
    hs_ort_binding *binding;
    float *query;   /* [dim, queries] */
    float *score;   /* [places, queries] */
    int64_t *place; /* [places, queries] */
} npu_search;

static void free_search(npu_search *s)
{
    if (!s)
        return;
    hs_ort_binding_close(s->binding);
    hs_ort_session_close(s->session);
    hs_graph_free(s->graph);
    hs_free(s->query);
    hs_free(s->score);
    hs_free(s->place);
    hs_free(s);
}

void hs_npu_search_free(npu_search *s)
{
    while (s) {
        npu_search *next = s->next;
        free_search(s);
        s = next;
    }
}

static bool is_search(const npu_search *a, const npu_search *b)
{
    return a->table == b->table && a->inv_norm == b->inv_norm && a->bias == b->bias && a->first == b->first &&
           a->n == b->n && a->dim == b->dim && a->queries == b->queries && a->places == b->places;
}

/* ---- compiling -------------------------------------------------------------------------------------------------------- */

/* scores [n, queries] = (table q) * inv_norm + bias, then the best of each column. */
static hstu_status build(npu_search *s, hstu_error *err)
{
    hs_graph *g = s->graph = hs_graph_new();
    if (!g)
        return hs_fail_nomem(err, sizeof *g, "a graph");
    const hs_value q = hs_graph_input(g, "query", HS_F32, hs_dims_2(s->dim, s->queries));
    hs_value x =
        hs_graph_matmul(g, hs_graph_constant(g, HS_F32, hs_dims_2(s->n, s->dim), s->table + s->first * s->dim), q);
    if (s->inv_norm)
        x = hs_graph_mul(g, x, hs_graph_constant(g, HS_F32, hs_dims_2(s->n, 1), s->inv_norm + s->first));
    if (s->bias)
        x = hs_graph_add(g, x, hs_graph_constant(g, HS_F32, hs_dims_2(s->n, 1), s->bias + s->first));
    hs_value score = HS_NO_VALUE, place = HS_NO_VALUE;
    hs_graph_top_k(g, x, s->places, &score, &place);
    hs_graph_output(g, "score", score);
    hs_graph_output(g, "place", place);
    return hs_graph_check(g, err);
}

static hstu_status compile(npu_root *root, npu_search *s, hstu_error *err)
{
    const double start = hs_clock_s();
    HS_TRY(build(s, err));
    HS_TRY(hs_ort_compile(root->ort, s->graph, &s->session, err));
    s->query = hs_alloc_aligned((size_t)(s->dim * s->queries), sizeof *s->query);
    s->score = hs_alloc_aligned((size_t)(s->places * s->queries), sizeof *s->score);
    s->place = hs_alloc_aligned((size_t)(s->places * s->queries), sizeof *s->place);
    if (!s->query || !s->score || !s->place)
        return hs_fail_nomem(err, (size_t)(s->dim * s->queries) * sizeof *s->query, "a search");
    void *const input[] = {s->query}, *const output[] = {s->score, s->place};
    HS_TRY(hs_ort_bind(s->session, input, output, &s->binding, err));
    (void)pthread_mutex_lock(&root->lock);
    root->compile_s += hs_clock_s() - start;
    root->n_compiled++;
    (void)pthread_mutex_unlock(&root->lock);
    return HSTU_OK;
}

static void drop_oldest(npu_search *s)
{
    int64_t n = 0;
    for (; s && s->next; s = s->next) {
        if (++n < MOST_SEARCHES)
            continue;
        hs_npu_search_free(s->next);
        s->next = NULL;
    }
}

static hstu_status find_search(hs_npu *npu, const npu_search *wanted, npu_search **out, hstu_error *err)
{
    for (npu_search **at = &npu->search; *at; at = &(*at)->next) {
        npu_search *s = *at;
        if (!is_search(s, wanted))
            continue;
        *at = s->next;
        s->next = npu->search;
        npu->search = *out = s;
        return HSTU_OK;
    }
    npu_search *s = hs_alloc(1, sizeof *s);
    if (!s)
        return hs_fail_nomem(err, sizeof *s, "a search");
    *s = *wanted;
    const hstu_status status = compile(npu->root, s, err);
    if (status != HSTU_OK) {
        free_search(s);
        return status;
    }
    s->next = npu->search;
    npu->search = *out = s;
    drop_oldest(npu->search);
    return HSTU_OK;
}

/* ---- searching --------------------------------------------------------------------------------------------------------- */

static bool has_seen(const hs_topk_args *a, int64_t query, int64_t id)
{
    int64_t low = a->seen_offset ? a->seen_offset[query] : 0, high = a->seen_offset ? a->seen_offset[query + 1] : 0;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (a->seen[middle] == id)
            return true;
        if (a->seen[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* Column `column` of the result is what `query` found; false when a score is no number, which top-k operators do not order. */
static bool take_column(const npu_search *s, const hs_topk_args *a, int64_t query, int64_t column)
{
    int64_t found = 0;
    for (int64_t i = 0; i < s->places; i++) {
        const int64_t at = i * s->queries + column, id = s->first + s->place[at];
        if (isnan(s->score[at]) || s->place[at] < 0 || s->place[at] >= s->n)
            return false;
        if (found == a->k || has_seen(a, query, id))
            continue;
        a->item[query * a->k + found] = id;
        a->score[query * a->k + found++] = s->score[at] + 0.0f; /* -0 is given as 0 */
    }
    for (; found < a->k; found++) {
        a->item[query * a->k + found] = -1;
        a->score[query * a->k + found] = -INFINITY;
    }
    return true;
}

/* Queries first .. first + n - 1. *right false: the CPU must answer. */
static hstu_status run_queries(
    hs_npu *npu, const npu_search *s, const hs_topk_args *a, int64_t first, int64_t n, bool *right, hstu_error *err)
{
    for (int64_t d = 0; d < s->dim; d++) {
        for (int64_t q = 0; q < s->queries; q++)
            s->query[d * s->queries + q] = q < n ? a->query.data[(first + q) * a->query.ld + d] : 0.0f;
    }
    const double start = hs_clock_s();
    HS_TRY(hs_ort_changed(s->binding, 0, err));
    HS_TRY(hs_ort_run(s->binding, err));
    npu->stats.run_s += hs_clock_s() - start;
    npu->stats.n_runs++;
    npu->stats.n_copies += 3;
    npu->stats.bytes_in += s->dim * s->queries * (int64_t)sizeof *s->query;
    npu->stats.bytes_out += s->places * s->queries * (int64_t)(sizeof *s->score + sizeof *s->place);
    for (int64_t q = 0; *right && q < n; q++)
        *right = take_column(s, a, first + q, q);
    return HSTU_OK;
}

/* The different items that a query has seen: some stand in its list several times. */
static int64_t count_seen(const hs_topk_args *a, int64_t query)
{
    const int64_t begin = a->seen_offset[query];
    int64_t n = 0;
    for (int64_t i = begin; i < a->seen_offset[query + 1]; i++)
        n += i == begin || a->seen[i] != a->seen[i - 1];
    return n;
}

/* The search that answers a call, places 0 when the CPU must. */
static npu_search plan_search(const hs_npu *npu, const hs_topk_args *a)
{
    int64_t seen = 0;
    for (int64_t q = 0; a->seen_offset && q < a->query.rows; q++) {
        const int64_t n = count_seen(a, q);
        seen = n > seen ? n : seen;
    }
    npu_search s = {.table = a->table,
        .inv_norm = a->inv_norm,
        .bias = a->bias,
        .first = a->first,
        .n = a->n_candidates,
        .dim = a->query.cols};
    const double bytes = (double)s.n * (double)s.dim * sizeof(float);
    if (!npu->root->ort || npu->root->no_top_k || npu->compile_only || a->target || a->candidate ||
        a->table_type != HS_F32 || a->k == 0 || a->query.rows == 0 || s.n == 0 || bytes > MOST_BYTES ||
        a->k > MOST_PLACES || seen > MOST_PLACES - a->k)
        return s;
    const int64_t places = hs_device_bucket(a->k + seen), queries = hs_device_bucket(a->query.rows);
    s.places = places < s.n ? places : s.n;
    s.queries = queries < MOST_QUERIES ? queries : MOST_QUERIES;
    return s;
}

hstu_status hs_npu_topk(hs_device *dev, const hs_topk_args *a, hstu_error *err)
{
    hs_npu *npu = (hs_npu *)dev;
    const npu_search wanted = plan_search(npu, a);
    npu_search *s = NULL;
    bool right = wanted.places > 0;
    if (right) {
        hstu_error declined;
        const hstu_status status = find_search(npu, &wanted, &s, &declined);
        if (status != HSTU_OK && status != HSTU_EUNSUP) {
            if (err)
                *err = declined;
            return status;
        }
        right = status == HSTU_OK;
        npu->root->no_top_k = !right;
    }
    for (int64_t first = 0; right && first < a->query.rows; first += s->queries) {
        const int64_t left = a->query.rows - first;
        HS_TRY(run_queries(npu, s, a, first, left < s->queries ? left : s->queries, &right, err));
    }
    npu->stats.n_top_k_device += right;
    npu->stats.n_top_k_cpu += !right;
    return right ? HSTU_OK : npu->cpu->table->topk(npu->cpu, a, err);
}
