/* What the public handles are made of. The engine is the only place that joins model, device and files. */
#ifndef HS_ENGINE_ENGINE_H
#define HS_ENGINE_ENGINE_H

#include "cache/kvcache.h"
#include "ckpt/nvdir.h"
#include "ckpt/pth.h"
#include "hstu/cache.h"
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
    char *device;             /* the name as asked for */
    int threads;              /* as asked for: a session opens its own device with it */
    int64_t max_graphs;       /* of an NPU */
    bool random_weights;
    hs_model_random_options random; /* of random weights */
};

/* As hstu_model_open. for_file: on the device "onnx", whose passes only become files. */
hstu_status hs_engine_open_model(
    hstu_model **out, const char *checkpoint, const hstu_model_options *options, bool for_file, hstu_error *err);
/* What needs no device to be refused. */
hstu_status hs_engine_check_options(const hstu_model_options *options, hstu_error *err);
hstu_status hs_engine_open_device(hs_device **out, const hstu_model_options *options, bool for_file, hstu_error *err);
/* NULL: the defaults. HSTU_EINVAL for what is out of range. */
hstu_status hs_engine_read_npu_options(
    struct hstu_npu_options *out, const struct hstu_npu_options *given, hstu_error *err);
bool hs_engine_is_bf16(const char *dtype); /* NULL: no */
/* Whether `path` is a file that the model is read from, by links too. */
bool hs_engine_reads(const hstu_model *model, const char *path);

enum { HS_FINGERPRINT_BYTES = 16 };
/* Names all that decides over a model's bits: weights, configuration, arithmetic, kernels (or an NPU's provider and versions), our
 * version. Reads every weight. HSTU_ENOMEM. */
hstu_status hs_engine_fingerprint(const hstu_model *model, unsigned char out[HS_FINGERPRINT_BYTES], hstu_error *err);

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
    hs_arena scratch;   /* one chunk of users */
    hs_profile profile; /* of passes that threads share out */
    hstu_status status;
    hstu_error err;
} hs_lane;

/* What the users of one call have in the cache: made before the call is shared out, then each of its passes uses its
 * own users'. */
typedef struct hs_reuse {
    struct hstu_cache *cache; /* NULL: without */
    size_t n_users;
    int64_t *n_tokens, *reused; /* [n_users] */
    /* [n_users] each, with a cache: */
    hs_cache_history *history;
    hs_cache_lease *lease;
    int64_t *first_page; /* [n_users + 1] into page */
    char **page;
    uint64_t *stamp; /* beside page */
    hs_kept *kept;   /* of the pass that begins with this user */
} hs_reuse;

struct hstu_session {
    const hstu_model *model;
    struct hstu_cache *cache; /* or NULL */
    int64_t micro_batch;
    hs_reuse reuse; /* of the last call, as far as hstu_session_get_reuse tells; in `call` */
    hs_lane whole;  /* all threads */
    hs_lane *part;  /* [n_parts], one thread each, for batches of several users; NULL with one thread */
    size_t n_parts;
    int64_t pass_rows; /* a pass that is not a thread's among others takes whole users up to this many rows */
    hs_arena call;     /* one call */
    hs_profile profile;
    bool profiles; /* the lanes' devices fill the profile */
};

enum {
    HS_SESSION_PASS_ROWS = 4096, /* the workspace does not grow with the batch */
    HS_THREAD_PASS_ROWS = 512,   /* of one thread alone, which wants it in its own cache */
    HS_PADDED_USERS = 16         /* at most share a pass on a device that pads */
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
    int64_t *history;       /* [n_users]: tokens of each user's history; 0 where there is no candidate to score */
} hs_rank_request;

hstu_status hs_rank_request_check(
    hs_rank_request *out, const hs_model *model, const hstu_batch *batch, hs_arena *arena, hstu_error *err);

/* Forgets the session's call before. */
void hs_engine_start_call(hstu_session *session);

/* Where so many multiply-adds, which threads would share and then meet, are done: by one thread when waking others would take
 * longer. */
hs_lane *hs_engine_lane(hstu_session *session, double multiply_adds);

/* Around passes that each thread runs for itself: every lane fills a profile of its own, and adds to the session's its share of
 * the time that passed for all. */
void hs_engine_part_profile(hstu_session *session);
void hs_engine_join_profile(hstu_session *session);

/* A forward pass over users that can be split between any two of them. */
typedef struct hs_lane_work {
    size_t n_users;
    const int64_t *rows;       /* [n_users]: rows of each user; one without rows takes no part */
    const int64_t *keys;       /* [n_users]: tokens that a user's rows look at */
    const int64_t *candidates; /* [n_users]: how many of a user's rows and keys are candidates; NULL: none */
    /* Multiply-adds of one layer: for a row, and for a row and a token that it looks at. */
    double row_cost, pair_cost;
    int64_t n_layers;
    void *ctx;
    /* Users first .. end - 1, all with rows, in one pass on the lane, whose scratch memory is empty. */
    hstu_status (*run)(void *ctx, hs_lane *lane, size_t first, size_t end, hstu_error *err);
} hs_lane_work;

/* Chooses which users share a pass, and on how many threads. */
hstu_status hs_engine_share(hstu_session *session, const hs_lane_work *work, hstu_error *err);

/* How the users of a call name their tokens. */
typedef struct hs_reuse_source {
    size_t n_users;
    const int64_t *user_id;  /* [n_users], or NULL: nothing is looked up */
    const int64_t *n_tokens; /* [n_users]; 0: takes no part */
    int64_t newest;          /* so many of the newest tokens are always computed */
    void *ctx;
    /* Fills the words of the user's tokens and those in front, as hs_reuse_words says. */
    void (*name)(void *ctx, size_t user, int64_t *head, int64_t *word);
} hs_reuse_source;

/* Words that name a token, and those in front of all, of a model's histories. */
void hs_reuse_words(const hs_config *config, int *per_token, int *head);
/* Looks up every user of a call in the session's cache. Memory comes from session->call; hs_reuse_end must follow. */
hstu_status hs_reuse_begin(hstu_session *session, const hs_reuse_source *source, hstu_error *err);
/* What users from `first` on bring to a pass, for hs_input.kept; NULL without a cache. */
const hs_kept *hs_reuse_kept(const hs_reuse *reuse, size_t first);
/* Users first .. end - 1 are computed, and their answers are finite: the cache keeps their rows. Any thread. */
void hs_reuse_commit(hs_reuse *reuse, size_t first, size_t end);
/* Lets go of what was not committed. */
void hs_reuse_end(hs_reuse *reuse);

/* The user embeddings of a checked batch, *out [n_users, D] in the session's memory of the call. */
hstu_status hs_engine_embeddings(hstu_session *session, const hs_request *request, float **out, hstu_error *err);
/* HSTU_EINVAL for a session whose model ranks candidates. */
hstu_status hs_engine_refuse_ranking(const hstu_session *session, hstu_error *err);

/* HSTU_EINVAL for a session of another device. */
hstu_status hs_engine_require_npu(const hstu_session *session, hstu_error *err);

/* The place of the first infinity or NaN; n without one. */
size_t hs_engine_find_not_finite(const float *x, size_t n);
/* A copy of the text, freed with hs_free. */
hstu_status hs_engine_copy_text(char **out, const char *text, hstu_error *err);
/* Room for n numbers in `arena`. */
hstu_status hs_engine_alloc_ids(hs_arena *arena, int64_t **out, size_t n, hstu_error *err);

/* Copies a caller's options of `size` bytes over the defaults in `own`: older callers know fewer members. */
hstu_status hs_engine_read_options(void *own, size_t own_size, const void *given, const char *init, hstu_error *err);

#endif
