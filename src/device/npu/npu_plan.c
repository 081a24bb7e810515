/* Compiled graphs, shared by a model's lanes, and each lane's memory for them. Both are few: the least recently used goes. */
#include "device/npu/npu_int.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

#include <string.h>

static bool is_plan_of(const npu_plan *plan, const npu_pass *p)
{
    return memcmp(&plan->layout, &p->layout, sizeof p->layout) == 0 && plan->n_steps == p->n_steps &&
           memcmp(plan->step, p->step, (size_t)p->n_steps * sizeof *p->step) == 0;
}

/* ---- plans -------------------------------------------------------------------------------------------------------- */

void hs_npu_plan_free(npu_plan *plan)
{
    if (!plan)
        return;
    hs_ort_session_close(plan->session);
    hs_graph_free(plan->graph);
    hs_free(plan->input);
    hs_free(plan->output);
    hs_free(plan->step);
    hs_free(plan);
}

/* The list of plans, or an instance, no longer needs it. The root is locked. */
static void leave_plan(npu_plan *plan)
{
    if (--plan->n_users == 0)
        hs_npu_plan_free(plan);
}

void hs_npu_free_plans(npu_root *root)
{
    while (root->plan) {
        npu_plan *plan = root->plan;
        root->plan = plan->next;
        leave_plan(plan);
    }
}

static hstu_status make_plan(const hs_npu *npu, npu_plan **out, hstu_error *err)
{
    const npu_pass *p = &npu->pass;
    hstu_status status = HSTU_OK;
    npu_plan *plan = hs_calloc(1, sizeof *plan);
    npu_step *step = hs_alloc((size_t)p->n_steps, sizeof *step);
    if (!plan || !step) {
        hs_free(plan);
        hs_free(step);
        return hs_fail_nomem(err, (size_t)p->n_steps * sizeof *step, "a graph");
    }
    memcpy(step, p->step, (size_t)p->n_steps * sizeof *step);
    plan->step = step;
    plan->n_steps = p->n_steps;
    plan->layout = p->layout;
    plan->n_users = 1;
    HS_TRY_GOTO(hs_npu_lower(plan, p, npu->root->compute, err));
    if (npu->root->ort)
        HS_TRY_GOTO(hs_ort_compile(npu->root->ort, plan->graph, &plan->session, err));
    plan->n_nodes = plan->session ? hs_ort_session_nodes(plan->session) : plan->graph->n_nodes;
    *out = plan;
    return HSTU_OK;
fail:
    hs_npu_plan_free(plan);
    return status;
}

static void evict_plan(npu_root *root)
{
    npu_plan **oldest = &root->plan;
    for (npu_plan **at = &root->plan; *at; at = &(*at)->next) {
        if ((*at)->used_at < (*oldest)->used_at)
            oldest = at;
    }
    npu_plan *plan = *oldest;
    *oldest = plan->next;
    root->n_plans--;
    root->n_evicted++;
    atomic_store_explicit(&plan->evicted, true, memory_order_release);
    leave_plan(plan);
}

/* The root is locked. */
static hstu_status find_plan(hs_npu *npu, npu_plan **out, hstu_error *err)
{
    npu_root *root = npu->root;
    for (npu_plan *plan = root->plan; plan; plan = plan->next) {
        if (is_plan_of(plan, &npu->pass)) {
            *out = plan;
            return HSTU_OK;
        }
    }
    npu_plan *plan = NULL;
    HS_TRY(make_plan(npu, &plan, err));
    root->n_compiled++;
    if (root->n_plans == root->max_graphs)
        evict_plan(root);
    plan->next = root->plan;
    plan->used_at = ++root->clock;
    root->plan = plan;
    root->n_plans++;
    *out = plan;
    return HSTU_OK;
}

/* ---- instances ------------------------------------------------------------------------------------------------------- */

static bool is_past(npu_feed_kind kind)
{
    return kind == NPU_FEED_PAST_K || kind == NPU_FEED_PAST_V;
}

static void free_buffers(void **list, const npu_feed *feed, int64_t n)
{
    for (int64_t i = 0; list && i < n; i++) {
        if (!is_past(feed[i].kind))
            hs_free(list[i]);
    }
    hs_free(list);
}

static void free_instance(hs_npu *npu, npu_instance *in)
{
    hs_ort_binding_close(in->binding);
    free_buffers(in->input, in->plan->input, in->plan->n_inputs);
    free_buffers(in->output, in->plan->output, in->plan->n_outputs);
    hs_npu_past_leave(npu, in->past);
    hs_free(in->told);
    (void)pthread_mutex_lock(&npu->root->lock);
    leave_plan(in->plan);
    (void)pthread_mutex_unlock(&npu->root->lock);
    hs_free(in);
}

void hs_npu_free_instances(hs_npu *npu)
{
    while (npu->instance) {
        npu_instance *in = npu->instance;
        npu->instance = in->next;
        free_instance(npu, in);
    }
}

/* Graphs that the model no longer keeps. */
static void drop_evicted(hs_npu *npu)
{
    for (npu_instance **at = &npu->instance; *at;) {
        npu_instance *in = *at;
        if (!atomic_load_explicit(&in->plan->evicted, memory_order_acquire)) {
            at = &in->next;
            continue;
        }
        *at = in->next;
        free_instance(npu, in);
    }
}

static hstu_status alloc_buffers(npu_instance *in, void ***out, const npu_feed *feed, int64_t n, hstu_error *err)
{
    void **list = *out = hs_calloc((size_t)n + 1, sizeof *list);
    if (!list)
        return hs_fail_nomem(err, (size_t)n * sizeof *list, "a graph's memory");
    for (int64_t i = 0; i < n; i++) {
        if (is_past(feed[i].kind)) {
            list[i] = feed[i].kind == NPU_FEED_PAST_K ? in->past->k[feed[i].index] : in->past->v[feed[i].index];
            continue;
        }
        list[i] = hs_alloc_aligned(feed[i].bytes, 1);
        if (!list[i])
            return hs_fail_nomem(err, feed[i].bytes, "a graph's memory");
        memset(list[i], 0, feed[i].bytes);
    }
    return HSTU_OK;
}

/* The plan is the instance's from the start, whatever the result. */
static hstu_status fill_instance(hs_npu *npu, npu_instance *in, hstu_error *err)
{
    const npu_plan *plan = in->plan;
    if (plan->layout.past > 0 && npu->pass.n_attns > 0) {
        in->past = hs_npu_past_find(npu, npu->pass.n_attns, &npu->pass.attn[0].kv.shape);
        in->told = hs_calloc((size_t)npu->pass.n_attns, sizeof *in->told);
        if (!in->past || !in->told)
            return hs_fail_nomem(err, (size_t)plan->layout.past, "bound keys and values");
    }
    HS_TRY(alloc_buffers(in, &in->input, plan->input, plan->n_inputs, err));
    HS_TRY(alloc_buffers(in, &in->output, plan->output, plan->n_outputs, err));
    return plan->session ? hs_ort_bind(plan->session, in->input, in->output, &in->binding, err) : HSTU_OK;
}

/* All of it counts as compiling. */
static hstu_status make_instance(hs_npu *npu, npu_instance **out, hstu_error *err)
{
    const double start = hs_clock_s();
    npu_instance *in = hs_calloc(1, sizeof *in);
    if (!in)
        return hs_fail_nomem(err, sizeof *in, "a graph's memory");
    (void)pthread_mutex_lock(&npu->root->lock);
    hstu_status status = find_plan(npu, &in->plan, err);
    if (status == HSTU_OK)
        in->plan->n_users++;
    (void)pthread_mutex_unlock(&npu->root->lock);
    if (status != HSTU_OK) {
        hs_free(in);
        return status;
    }
    status = fill_instance(npu, in, err);
    if (status != HSTU_OK) {
        free_instance(npu, in);
        return status;
    }
    in->next = npu->instance;
    npu->instance = in;
    *out = in;
    (void)pthread_mutex_lock(&npu->root->lock);
    npu->root->compile_s += hs_clock_s() - start;
    (void)pthread_mutex_unlock(&npu->root->lock);
    return HSTU_OK;
}

hstu_status hs_npu_find_instance(hs_npu *npu, npu_instance **out, hstu_error *err)
{
    npu_instance *found = NULL;
    drop_evicted(npu);
    for (npu_instance *in = npu->instance; in && !found; in = in->next) {
        if (is_plan_of(in->plan, &npu->pass))
            found = in;
    }
    if (!found)
        HS_TRY(make_instance(npu, &found, err));
    found->plan->used_at = ++npu->root->clock; /* without the lock, which another lane may hold while it compiles */
    *out = found;
    return HSTU_OK;
}
