/* Operations on rows become steps: what decides over a graph's nodes goes into the step, what changes from pass to pass beside
 * it. */
#include "device/npu/npu_record.h"

#include "base/error.h"

hstu_status hs_npu_record_embed(hs_device *dev, const hs_embed_args *a, hstu_error *err)
{
    hs_npu *npu = (hs_npu *)dev;
    npu_pass *p = &npu->pass;
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_EMBED, &step, err));
    HS_TRY(NPU_GROW(p, embed, n_embeds, most_embeds, err));
    for (int64_t i = 0; i < p->n_embeds; i++) {
        if (hs_npu_meet(&p->embed[i].x, &a->out))
            return hs_fail(err, HSTU_EDEVICE, 0, "a recording device keeps embedded rows where they are until the end");
    }
    HS_TRY(npu->one->table->embed(npu->one, a, err));
    step.number[0] = p->n_embeds;
    p->embed[p->n_embeds++] = (npu_embed){.x = a->out};
    HS_TRY(hs_npu_write_to(p, &a->out, npu_all_rows(&p->layout), &step, err));
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_layer_norm(hs_device *dev, const hs_layer_norm_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_LAYER_NORM, &step, err));
    HS_TRY(hs_npu_look_up(p, &a->x, &step.in[IN_X], err));
    if (a->add.data)
        HS_TRY(hs_npu_look_up(p, &a->add, &step.in[IN_ADD], err));
    step.pointer[PTR_WEIGHT] = a->weight;
    step.pointer[PTR_BIAS] = a->bias;
    step.real[0] = (double)a->eps;
    HS_TRY(hs_npu_write_to(p, &a->out, step.in[IN_X].rows, &step, err));
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_norm_gate(hs_device *dev, const hs_norm_gate_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_NORM_GATE, &step, err));
    HS_TRY(hs_npu_look_up(p, &a->o, &step.in[IN_X], err));
    HS_TRY(hs_npu_look_up(p, &a->u, &step.in[IN_U], err));
    step.pointer[PTR_WEIGHT] = a->weight;
    step.pointer[PTR_BIAS] = a->bias;
    step.real[0] = (double)a->eps;
    step.number[0] = a->concat;
    HS_TRY(hs_npu_write_to(p, &a->out, step.in[IN_X].rows, &step, err));
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}

/* Each layer's reads come before its write: it may write where it reads its residual. No layer reads what another writes. */
hstu_status hs_npu_record_linear(hs_device *dev, const hs_linear_args *a, int64_t n, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    for (int64_t i = 0; i < n; i++) {
        npu_step step;
        if (a[i].out.rows == 0)
            continue;
        if (a[i].stream.data)
            return hs_fail(
                err, HSTU_EDEVICE, 0, "a recording device computes nothing in bfloat16, so it keeps no stream apart");
        HS_TRY(hs_npu_new_step(p, NPU_LINEAR, &step, err));
        HS_TRY(hs_npu_look_up(p, &a[i].x, &step.in[IN_X], err));
        if (a[i].residual.data)
            HS_TRY(hs_npu_look_up(p, &a[i].residual, &step.in[IN_RESIDUAL], err));
        step.pointer[PTR_WEIGHT] = a[i].w;
        step.pointer[PTR_BIAS] = a[i].bias;
        step.number[0] = (int64_t)a[i].act;
        HS_TRY(hs_npu_write_to(p, &a[i].out, step.in[IN_X].rows, &step, err));
        hs_npu_add_step(p, &step);
    }
    for (int64_t i = 0; i < n; i++) { /* of what is stored there is one layer of keys */
        if (a[i].stored && a[i].out.data == a[i].stored->k.data)
            HS_TRY(hs_npu_record_kv_write(dev, a[i].stored, err));
    }
    return HSTU_OK;
}

/* The one gather of a pass: each user's newest history row. */
hstu_status hs_npu_record_gather(hs_device *dev, const hs_gather_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_NEWEST, &step, err));
    bool newest = a->out.rows == p->rows.users.n_users && a->x.rows == hs_npu_history_rows(p);
    for (int64_t b = 0; newest && b < a->out.rows; b++)
        newest = a->row[b] >= p->rows.users.offset[b] && a->row[b] == p->rows.users.offset[b + 1] - 1;
    if (!newest)
        return hs_fail(err, HSTU_EDEVICE, 0, "a recording device gathers each user's newest row and no others");
    HS_TRY(hs_npu_look_up(p, &a->x, &step.in[IN_X], err));
    HS_TRY(hs_npu_write_to(p, &a->out, NPU_USERS, &step, err));
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}

hstu_status hs_npu_record_l2_norm(hs_device *dev, const hs_l2_norm_args *a, hstu_error *err)
{
    npu_pass *p = hs_npu_pass_of(dev);
    npu_step step;
    if (a->out.rows == 0)
        return HSTU_OK;
    HS_TRY(hs_npu_new_step(p, NPU_L2_NORM, &step, err));
    HS_TRY(hs_npu_look_up(p, &a->x, &step.in[IN_X], err));
    step.real[0] = (double)a->eps;
    HS_TRY(hs_npu_write_to(p, &a->out, step.in[IN_X].rows, &step, err));
    hs_npu_add_step(p, &step);
    return HSTU_OK;
}
