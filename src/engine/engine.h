/* What the public handles are made of. The engine is the only place that joins model, device and files. */
#ifndef HS_ENGINE_ENGINE_H
#define HS_ENGINE_ENGINE_H

#include "ckpt/nvdir.h"
#include "ckpt/pth.h"
#include "hstu/hstu.h"
#include "model/family.h"
#include "model/forward.h"

/* The pair of safetensors' __metadata__ that holds the model's configuration as JSON. */
#define HS_CONFIG_METADATA_KEY "hstu_config"

struct hstu_model {
    hs_model model;
    hs_device *dev;           /* packs the weights, and frees them */
    hs_nvdir folder;          /* an open checkpoint folder; zeroed for a file */
    hs_statedict dict;        /* the mapped file, or views of the folder's; zeroed with random weights */
    hs_recognised recognised; /* of `dict` */
    char *path, *config;      /* owned copies: the checkpoint's path, the configuration's name or path */
    int threads;              /* as asked for: a session opens its own device with it */
    bool random_weights;
};

/* The family of a checkpoint folder: one of NVIDIA's, or unknown. */
hs_recognised hs_engine_recognise_folder(const hs_nvdir *dir);
/* The folder's weights in the layout of the fused layer, and its tables in the configuration's order: *table [n_tables], from
 * hs_calloc, is the caller's. Both view the folder, which must stay open. On failure the caller closes *dict. HSTU_EINVAL names a
 * table that only one side knows, or whose rows do not fit. */
hstu_status hs_engine_read_folder(
    hs_nvdir *dir, const hs_config *config, hs_statedict *dict, hs_table **table, hstu_error *err);

/* "retrieval", "ranking", "decoder" */
const char *hs_engine_family_name(const hs_config *config);
/* Retrieval keeps 0 for padding. */
int64_t hs_engine_min_item_id(const hs_config *config);

/* What one forward pass works with. */
typedef struct hs_lane {
    hs_device *dev;
    hs_arena scratch; /* one chunk of users */
    hstu_status status;
    hstu_error err;
} hs_lane;

struct hstu_session {
    const hstu_model *model;
    hs_lane whole; /* all threads */
    hs_lane *part; /* [n_parts], one thread each, for batches of several users; NULL with one thread */
    size_t n_parts;
    hs_arena call; /* one call */
};

/* The part of info that a configuration tells; `source` becomes info->config. */
void hs_engine_config_info(hstu_model_info *info, const hs_config *config, const char *source);

/* A batch, checked and cut to the newest max_sequence_length events of each user. */
typedef struct hs_request {
    const hstu_batch *batch;
    int64_t *first; /* [n_users]: the first row of the batch's arrays that is used */
    bool uses_time;
} hs_request;

/* HSTU_EINVAL names the user, what was expected and what was found. Memory comes from `arena`. */
hstu_status hs_request_check(
    hs_request *out, const hs_config *config, const hstu_batch *batch, hs_arena *arena, hstu_error *err);

/* A request to a ranking model, checked, its histories cut to the newest max_history events. */
typedef struct hs_rank_request {
    hs_ranking_input input; /* of all users */
    int64_t *rows;          /* [n_users]: tokens of each user; 0 where there is no candidate to score */
} hs_rank_request;

hstu_status hs_rank_request_check(
    hs_rank_request *out, const hs_model *model, const hstu_batch *batch, hs_arena *arena, hstu_error *err);

/* Where so many multiply-adds, which threads would share and then meet, are done: by one thread when waking others would take
 * longer. */
hs_lane *hs_engine_lane(hstu_session *session, double multiply_adds);

/* A forward pass over users that can be split between any two of them. */
typedef struct hs_lane_work {
    size_t n_users;
    const int64_t *rows; /* [n_users]: rows of each user; one without rows takes no part */
    /* Multiply-adds of one layer: for a row, and for a pair of rows of one user. */
    double row_cost, pair_cost;
    int64_t n_layers;
    void *ctx;
    /* Users first .. end - 1, all with rows, in one pass on the lane, whose scratch memory is empty. */
    hstu_status (*run)(void *ctx, hs_lane *lane, size_t first, size_t end, hstu_error *err);
} hs_lane_work;

/* Chooses which users share a pass, and on how many threads. */
hstu_status hs_engine_share(hstu_session *session, const hs_lane_work *work, hstu_error *err);

/* The user embeddings of a checked batch, emb [n_users, D]. */
hstu_status hs_engine_encode(hstu_session *session, const hs_request *request, float *emb, hstu_error *err);

/* A copy of the text, freed with hs_free. */
hstu_status hs_engine_copy_text(char **out, const char *text, hstu_error *err);
/* Room for n numbers in `arena`. */
hstu_status hs_engine_alloc_ids(hs_arena *arena, int64_t **out, size_t n, hstu_error *err);

/* Copies a caller's options of `size` bytes over the defaults in `own`: older callers know fewer members. */
hstu_status hs_engine_read_options(void *own, size_t own_size, const void *given, const char *init, hstu_error *err);

#endif
