/* The table behind `hstu run`: parsing, defaults and help come from it. */
#include "cli/run_options.h"

#include "cli/npu_options.h"
#include "hstu/metric.h"

static const char of_preset[] = "the preset's";
static const char of_model[] = "the model's";
static const int64_t max_count = 1000000000;

const hs_option hs_run_options[HS_RUN_N_OPTIONS] = {
    [HS_RUN_CONFIG] = {"config", HS_OPTION_TEXT, "NAME|FILE", NULL,
        "the checkpoint's own, config.json beside it, or kuairand_gr; a decoder needs none, a ranking model has no "
        "default",
        0, 0, "preset, or JSON or gin file with the model's configuration"},
    [HS_RUN_CHECKPOINT] = {"checkpoint", HS_OPTION_TEXT, "FILE|DIR", NULL, "none: random weights from the seed", 0, 0,
        "PyTorch or safetensors file with the weights, or a checkpoint folder of NVIDIA's recsys-examples"},
    [HS_RUN_DATASET] = {"dataset", HS_OPTION_TEXT, "FILE", NULL, "what preprocess wrote for the preset's data set", 0,
        0,
        "sequence file: sequences.safetensors, processed_inference_sequences.csv, sasrec_format.csv or, for ranking, "
        "processed_seqs.csv"},
    [HS_RUN_DATA_ROOT] = {"data_root", HS_OPTION_TEXT, "DIR", "tmp_data", NULL, 0, 0, "where preprocess wrote"},
    [HS_RUN_PROTOCOL] = {"protocol", HS_OPTION_CHOICE, "sessions|leave-one-out|ranking|replay", NULL,
        "the preset's, or what the file allows", 0, 0,
        "one sample a session, or one a user, whose last event is the target; ranking: one a user, the last of whose "
        "kept events are candidates with labels; replay: users' logs in the order of time, each interval of "
        "--batch_ts_interval one request for its events"},
    [HS_RUN_STEPS] = {"steps", HS_OPTION_INT, "N", NULL, "all", 1, max_count, "batches to run"},
    [HS_RUN_BATCH_SIZE] = {"batch_size", HS_OPTION_INT, "N", NULL, "the preset's; replay: 1", 1, 65536,
        "requests in a batch; 1 answers each line of --requests at once"},
    [HS_RUN_SEQUENCE_LENGTH] = {"sequence_length", HS_OPTION_INT, "N", NULL, of_preset, 1, max_count,
        "newest events of a history that are used, at most the model's own limit"},
    [HS_RUN_TOP_K] = {"top_k", HS_OPTION_INTS, "K[,K...]", NULL, of_preset, 1, HSTU_MAX_RANK,
        "items to recommend; several values give several hr@k and ndcg@k, the first is hit_rate's"},
    [HS_RUN_FILTER_SEEN] = {"filter_seen", HS_OPTION_SWITCH, "[on|off]", NULL, "on for leave-one-out, else off", 0, 0,
        "leave out items of the history that is used"},
    [HS_RUN_CANDIDATES] = {"candidates", HS_OPTION_TEXT, "FILE", NULL, "every item", 0, 0,
        "the only items to recommend: original ids, one a line"},
    [HS_RUN_REQUESTS] = {"requests", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0,
        "answer these instead of a data set (- is standard input): a line is {\"user\": .., \"items\": [..], "
        "\"times\": [..], \"request_time\": .., \"candidates\": [..]}, times in the model's unit (seconds unless its "
        "configuration says otherwise), only items required; ranking: {\"user\": .., \"items\": [..], \"actions\": "
        "[..], \"context\": {\"name\": .., ..}, \"candidates\": [..]}; a cache knows users by \"user_id\", a whole "
        "number, or by \"user\" where that is one"},
    [HS_RUN_OUTPUT] = {"output", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0,
        "CSV of every user: user_id, target, rank (0: target filtered or no candidate), top-k ids; ranking: of every "
        "candidate: user_id, candidate, label, logits"},
    [HS_RUN_WARMUP] = {"warmup", HS_OPTION_INT, "N", NULL, of_preset, 0, max_count,
        "batches that run once more in front, untimed and uncounted"},
    [HS_RUN_THREADS] = {"threads", HS_OPTION_INT, "N", "0", NULL, 0, 4096,
        "threads; 0: as many as affinity and quota allow"},
    [HS_RUN_DEVICE] = {"device", HS_OPTION_TEXT, "NAME", "cpu", NULL, 0, 0,
        "where the model runs: cpu; npu, the first real NPU; npu:ascend, npu:intel, npu:qualcomm, npu:amd, or npu: and "
        "a provider's name in ONNX Runtime; ort-cpu, its own processor kernels, for tests; 'hstu devices' lists them"},
    [HS_RUN_DTYPE] = {"dtype", HS_OPTION_CHOICE, "fp32|float32|bf16|bfloat16|fp16|float16|half", "fp32", NULL, 0, 0,
        "arithmetic; fp16 is for NPUs"},
    [HS_RUN_SEED] = {"seed", HS_OPTION_INT, "N", "0", NULL, 0, INT64_MAX, "of random weights"},
    [HS_RUN_DUMP_LOGITS] = {"dump_logits", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "print the shapes of the outputs on standard error"},
    [HS_RUN_QUIET] = {"quiet", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0, "no progress bar and no table on the terminal"},
    [HS_RUN_ITEM_ID_OFFSET] = {"item_id_offset", HS_OPTION_INT, "N", NULL, of_model, -max_count, max_count,
        "model item id = original id + N"},
    [HS_RUN_DROP_DUPLICATES] = {"drop_duplicates", HS_OPTION_SWITCH, "[on|off]", NULL, of_model, 0, 0,
        "leave out events that repeat an earlier row of the logs exactly"},
    [HS_RUN_MIN_EVENTS] = {"min_events", HS_OPTION_INT, "N", NULL, of_model, 2, max_count,
        "leave-one-out, replay: users with fewer events are left out"},
    [HS_RUN_TIME_INTERVAL_S] = {"time_interval_s", HS_OPTION_INT, "N", NULL, of_model, 1, max_count,
        "sessions: a gap of N seconds begins a new one"},
    [HS_RUN_MAX_SEQUENCES] = {"max_sequences", HS_OPTION_INT, "N", NULL, of_model, 1, max_count, "sessions: at most N"},
    [HS_RUN_MAX_SEQUENCE_LENGTH] = {"max_sequence_length", HS_OPTION_INT, "N", NULL, of_model, 1, max_count,
        "sessions: the last N + 1 events of each"},
    [HS_RUN_MAX_HISTORY] = {"max_history", HS_OPTION_INT, "N", NULL, of_model, 1, max_count,
        "ranking: events of a user in front of the candidates"},
    [HS_RUN_MAX_CANDIDATES] = {"max_candidates", HS_OPTION_INT, "N", NULL, of_model, 1, max_count,
        "ranking: candidates of a user; users who have no more events than these are left out"},
    [HS_RUN_TRUNCATION] = {"truncation", HS_OPTION_CHOICE, "oldest|newest", "oldest", NULL, 0, 0,
        "ranking: which max_history + max_candidates events of a longer user are kept; the reference keeps the oldest"},
    [HS_RUN_SPLIT] = {"split", HS_OPTION_CHOICE, "test|train|all", "test", NULL, 0, 0,
        "ranking: the last 30 % of the users, the first 70 %, or both"},
    [HS_RUN_PAD_ATTENTION] = {"pad_attention", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "decoder: pad every history in front with item 0 up to --sequence_length and attend to that, as the original "
        "does"},
    [HS_RUN_BATCH_TS_INTERVAL] = {"batch_ts_interval", HS_OPTION_INT, "SECONDS", NULL, "60", 1, max_count,
        "replay: a user's events less than so long after the first of them are one request"},
    [HS_RUN_SLIDE_STEP] = {"slide_step", HS_OPTION_INT, "N", NULL, "1", 1, max_count,
        "replay, --requests: a history that is too long is cut at a multiple of N events, so that it keeps its "
        "beginning, and with it all that a cache holds, while N events arrive; 1: always the newest events"},
    [HS_RUN_MICRO_BATCH] = {"micro_batch", HS_OPTION_INT, "N", NULL, "256", 1, max_count,
        "ranking: candidates that are scored at once; memory grows with it, scores do not change"},
    [HS_RUN_KV_DTYPE] = {"kv_dtype", HS_OPTION_CHOICE, "fp32|bf16", NULL, "that of --dtype", 0, 0,
        "type of histories' keys and values, with and without a cache; bf16 takes half the room"},
    [HS_RUN_KV_CACHE] = {"kv_cache", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "keep keys and values: users who come back are answered from them, on the processor with the same bits"},
    [HS_RUN_KV_CACHE_BYTES] = {"kv_cache_bytes", HS_OPTION_SIZE, "SIZE", NULL, "1GiB", 1, INT64_MAX,
        "all memory of the cache: bytes, or with a unit such as 512MiB"},
    [HS_RUN_KV_PAGE_TOKENS] = {"kv_page_tokens", HS_OPTION_INT, "N", NULL, "64", 32, 65536,
        "tokens of a page of the cache, a multiple of 32: fewer waste less on short histories"},
    [HS_RUN_KV_CACHE_LOAD] = {"kv_cache_load", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0,
        "begin with what an earlier run saved"},
    [HS_RUN_KV_CACHE_SAVE] = {"kv_cache_save", HS_OPTION_TEXT, "FILE", NULL, NULL, 0, 0,
        "write at the end what the cache holds"},
    [HS_RUN_VERIFY_CACHE] = {"verify_cache", HS_OPTION_INT, "N", NULL, NULL, 1, max_count,
        "answer every N-th batch once more without the cache, untimed: a bit that differs fails the run"},
    [HS_RUN_ORT_LIBRARY] = HS_OPTION_ORT_LIBRARY,
    [HS_RUN_ORT_PROVIDER_LIBRARY] = HS_OPTION_ORT_PROVIDER_LIBRARY,
    [HS_RUN_NPU_OPTION] = {"npu_option", HS_OPTION_TEXTS, "KEY=VALUE", NULL, NULL, 0, 0,
        "an option of the vendor's provider (docs/npu.md); may be given several times"},
    [HS_RUN_NPU_GRAPHS] = {"npu_graphs", HS_OPTION_INT, "N", NULL, "64", 1, 65536,
        "compiled graphs that are kept; the least recently used one goes"},
    [HS_RUN_NPU_ROUTE] = {"npu_route", HS_OPTION_CHOICE, "editor|onnx", "editor", NULL, 0, 0,
        "how graphs reach ONNX Runtime: node by node, or as ONNX files in memory"},
    [HS_RUN_NPU_WARMUP] = {"npu_warmup", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "compile the graphs for all lengths before the first answer; else each is compiled when it is first needed"},
    [HS_RUN_NPU_SELFTEST] = {"npu_selftest", HS_OPTION_CHOICE, "auto|on|off", "auto", NULL, 0, 0,
        "compare a small batch with the processor's answers, and refuse a device that is wrong; auto: the first time "
        "that this model meets this device and these versions"},
    [HS_RUN_PROFILE] = {"profile", HS_OPTION_FLAG, NULL, NULL, NULL, 0, 0,
        "report how long each operation of the model took, too"},
};
