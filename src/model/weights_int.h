/* The list of weights under construction: weights.c and a file for each family. */
#ifndef HS_MODEL_WEIGHTS_INT_H
#define HS_MODEL_WEIGHTS_INT_H

#include "model/weights.h"

typedef struct hs_weight_builder {
    hs_weight *weight;
    size_t n;
} hs_weight_builder;

/* A further weight, of this name, rank and shape (a, b; a third size of 1). */
__attribute__((format(printf, 5, 6))) hs_weight *hs_weight_add(
    hs_weight_builder *l, int rank, int64_t a, int64_t b, const char *fmt, ...);
void hs_weight_start(hs_weight *w, hs_init init, double scale);
/* The weight is packed into *out. The whole weight is [n, in], as torch.nn.Linear stores it, or with `input_first` [in, n]. out NULL: not. */
void hs_weight_pack_as(hs_weight *w, hs_packed **out, int64_t in, int64_t n, bool input_first);
/* Columns first .. first + n - 1 of a weight [in, columns] are packed into *out. out NULL: not. */
void hs_weight_pack_columns(hs_weight *w, hs_packed **out, int64_t in, int64_t columns, int64_t first, int64_t n);

/* sqrt(gain / (fan_in + fan_out)): xavier's standard deviation (gain 2) or bound (gain 6). */
double hs_weight_xavier(double gain, int64_t fan_in, int64_t fan_out);
/* PyTorch's default for the weights and biases of Linear and Conv: uniform within 1 / sqrt(fan_in). */
double hs_weight_linear_default(int64_t fan_in);

/* The most weights that a family can have. */
size_t hs_weights_most_retrieval(const hs_config *config);
size_t hs_weights_most_ranking(const hs_config *config);
size_t hs_weights_most_decoder(const hs_config *config);
/* Each family's list; target may be NULL. */
void hs_weights_retrieval(hs_weight_builder *l, const hs_config *config, hs_weight_target *target);
void hs_weights_ranking(hs_weight_builder *l, const hs_config *config, hs_weight_target *target);
void hs_weights_decoder(hs_weight_builder *l, const hs_config *config, hs_weight_target *target);

#endif
