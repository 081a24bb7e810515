/* What the files share that record a pass. */
#ifndef HS_DEVICE_NPU_NPU_RECORD_H
#define HS_DEVICE_NPU_NPU_RECORD_H

#include "device/npu/npu_int.h"

static inline npu_pass *hs_npu_pass_of(hs_device *dev)
{
    return &((hs_npu *)dev)->pass;
}

/* Rows of all users' histories that the pass computes, and of all candidates. */
int64_t hs_npu_history_rows(const npu_pass *p);
int64_t hs_npu_candidate_rows(const npu_pass *p);

/* Room for one more in a list of the pass. HSTU_ENOMEM. */
hstu_status hs_npu_grow(void **list, int64_t n, int64_t *most, size_t size, hstu_error *err);
#define NPU_GROW(p, list, n, most, err) hs_npu_grow((void **)&(p)->list, (p)->n, &(p)->most, sizeof *(p)->list, err)

/* An empty step, and room for it. HSTU_EDEVICE outside a pass. */
hstu_status hs_npu_new_step(npu_pass *p, npu_op op, npu_step *step, hstu_error *err);
void hs_npu_add_step(npu_pass *p, const npu_step *step);
/* Whether two matrices' ranges of memory meet. */
bool hs_npu_meet(const hs_mat *a, const hs_mat *b);
/* The value, or the part of one, that lies at m. HSTU_EDEVICE for a matrix that was not written whole. */
hstu_status hs_npu_look_up(const npu_pass *p, const hs_mat *m, npu_ref *out, hstu_error *err);
/* The step's value lies at m from now on. */
hstu_status hs_npu_write_to(npu_pass *p, const hs_mat *m, int64_t rows, npu_step *step, hstu_error *err);

#endif
