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
    hs_device *dev;      /* packs the weights, and frees them */
    hs_statedict dict;   /* the mapped checkpoint; zeroed with random weights */
    char *path, *config; /* owned copies: the checkpoint's path, the configuration's name or path */
    int threads;         /* as asked for: a session opens its own device with it */
    bool random_weights;
};

/* The family of a checkpoint folder: one of NVIDIA's, or unknown. */
hs_recognised hs_engine_recognise_folder(const hs_nvdir *dir);

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

/* Where so many multiply-adds, which threads would share and then meet, are done: by one thread when waking others would take
 * longer. */
hs_lane *hs_engine_lane(hstu_session *session, double multiply_adds);

/* The user embeddings of a checked batch, emb [n_users, D]. */
hstu_status hs_engine_encode(hstu_session *session, const hs_request *request, float *emb, hstu_error *err);

/* A copy of the text, freed with hs_free. */
hstu_status hs_engine_copy_text(char **out, const char *text, hstu_error *err);
/* Room for n numbers in `arena`. */
hstu_status hs_engine_alloc_ids(hs_arena *arena, int64_t **out, size_t n, hstu_error *err);

/* Copies a caller's options of `size` bytes over the defaults in `own`: older callers know fewer members. */
hstu_status hs_engine_read_options(void *own, size_t own_size, const void *given, const char *init, hstu_error *err);

#endif
