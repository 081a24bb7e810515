/* What the options of `hstu run` say, with the defaults of preset and data set, and which of them do not go
 * together. */
#include "cli/run_settings.h"

#include "base/error.h"
#include "cli/run_npu.h"
#include "cli/run_options.h"

#include <string.h>

const char hs_run_default_config[] = "kuairand_gr";

/* ---- settings --------------------------------------------------------------------------------------------------- */

static bool is_replay(const hs_option_value *value)
{
    return value[HS_RUN_PROTOCOL].given && value[HS_RUN_PROTOCOL].number == HS_RUN_REPLAY;
}

static int64_t number_or(const hs_option_value *value, int64_t fallback)
{
    return value->given ? value->number : fallback;
}

const char *hs_run_dtype(const hs_option_value *value)
{
    static const char *const names[] = {"fp32", "fp32", "bf16", "bf16", "fp16", "fp16", "fp16"};
    return names[value[HS_RUN_DTYPE].number];
}

const char *hs_run_kv_dtype(const hs_option_value *value)
{
    static const char *const names[] = {"fp32", "bf16"};
    return value[HS_RUN_KV_DTYPE].given ? names[value[HS_RUN_KV_DTYPE].number] : NULL;
}

static void set_history(hs_run *run, const hs_option_value *value)
{
    hstu_history_options *h = &run->history;
    *h = run->info.history;
    h->item_id_offset = number_or(&value[HS_RUN_ITEM_ID_OFFSET], h->item_id_offset);
    h->drop_duplicates = (int)number_or(&value[HS_RUN_DROP_DUPLICATES], h->drop_duplicates);
    h->min_events = number_or(&value[HS_RUN_MIN_EVENTS], h->min_events);
    h->time_interval_s = number_or(&value[HS_RUN_TIME_INTERVAL_S], h->time_interval_s);
    h->max_sequences = number_or(&value[HS_RUN_MAX_SEQUENCES], h->max_sequences);
    h->max_sequence_length = number_or(&value[HS_RUN_MAX_SEQUENCE_LENGTH], h->max_sequence_length);
    h->max_history = 0; /* whole histories: the popularity baseline counts what the window cuts off */
    h->protocol = run->info.default_protocol;
    if (value[HS_RUN_PROTOCOL].given && !run->replay)
        h->protocol = value[HS_RUN_PROTOCOL].number == 0 ? HSTU_PROTOCOL_SESSIONS : HSTU_PROTOCOL_LEAVE_ONE_OUT;
    else if (run->dataset && run->dataset_info.kind == HSTU_DATASET_SESSIONS)
        h->protocol = HSTU_PROTOCOL_SESSIONS;
    else if (run->dataset && run->dataset_info.kind == HSTU_DATASET_SASREC)
        h->protocol = HSTU_PROTOCOL_LEAVE_ONE_OUT;
}

static void set_window(hs_run *run, const hs_option_value *value)
{
    const int64_t most = run->info.max_sequence_length;
    run->window = number_or(&value[HS_RUN_SEQUENCE_LENGTH],
        run->info.default_sequence_length > 0 ? run->info.default_sequence_length : most);
    if (run->window > most) {
        if (value[HS_RUN_SEQUENCE_LENGTH].given)
            hs_console_warn(&run->console, "--sequence_length %lld is more than the model's %lld events: %lld are used",
                (long long)run->window, (long long)most, (long long)most);
        run->window = most;
    }
}

static void set_top_k(hs_run *run, const hs_option_value *value)
{
    run->n_top_k = value->n_list;
    memcpy(run->top_k, value->list, value->n_list * sizeof *value->list);
    if (run->n_top_k == 0)
        run->top_k[run->n_top_k++] = run->info.default_top_k > 0 ? run->info.default_top_k : 5;
    for (size_t i = 0; i < run->n_top_k; i++)
        run->k = run->top_k[i] > run->k ? run->top_k[i] : run->k;
}

/* Which requests a ranking model gets. */
static void set_rules(hs_run *run, const hs_option_value *value)
{
    static const hstu_split splits[] = {HSTU_SPLIT_TEST, HSTU_SPLIT_TRAIN, HSTU_SPLIT_ALL};
    hstu_ranking_options *rules = &run->rules;
    const int64_t most = run->info.max_sequence_length;
    hstu_ranking_options_init(rules);
    rules->max_history = number_or(&value[HS_RUN_MAX_HISTORY], most > 0 ? most : rules->max_history);
    rules->max_candidates = number_or(
        &value[HS_RUN_MAX_CANDIDATES], run->info.max_candidates > 0 ? run->info.max_candidates : rules->max_candidates);
    rules->truncation = value[HS_RUN_TRUNCATION].number == 0 ? HSTU_TRUNCATION_OLDEST : HSTU_TRUNCATION_NEWEST;
    rules->split = splits[value[HS_RUN_SPLIT].number];
    if (most > 0 && rules->max_history > most) {
        hs_console_warn(&run->console, "--max_history %lld is more than the model's %lld events: %lld are used",
            (long long)rules->max_history, (long long)most, (long long)most);
        rules->max_history = most;
    }
    run->window = rules->max_history;
}

static void set_replay(hs_run *run, const hs_option_value *value)
{
    hstu_replay_options *rules = &run->replay_rules;
    hstu_replay_options_init(rules);
    rules->interval_s = number_or(&value[HS_RUN_BATCH_TS_INTERVAL], rules->interval_s);
    rules->contextual = run->ranking;
    if (run->ranking) {
        rules->item_id_offset = rules->drop_duplicates = 0; /* as in the reference */
        return;
    }
    rules->min_events = number_or(&value[HS_RUN_MIN_EVENTS], rules->min_events);
    rules->item_id_offset = run->history.item_id_offset;
    rules->shift_id_by = run->history.shift_id_by;
    rules->time_unit_ms = run->history.time_unit_ms;
    rules->drop_duplicates = run->history.drop_duplicates;
}

static void set_cache(hs_run *run, const hs_option_value *value)
{
    hs_run_cache *c = &run->cache;
    c->on = value[HS_RUN_KV_CACHE].given;
    hstu_cache_options_init(&c->options);
    c->options.bytes = (uint64_t)number_or(&value[HS_RUN_KV_CACHE_BYTES], (int64_t)c->options.bytes);
    c->options.page_tokens = number_or(&value[HS_RUN_KV_PAGE_TOKENS], c->options.page_tokens);
    c->verify_every = value[HS_RUN_VERIFY_CACHE].number;
    c->load_path = value[HS_RUN_KV_CACHE_LOAD].text;
    c->save_path = value[HS_RUN_KV_CACHE_SAVE].text;
}

static hstu_status check(const hs_run *run, hstu_error *err)
{
    if (run->pad_attention && (run->replay || run->history.protocol != HSTU_PROTOCOL_SESSIONS))
        return hs_fail(err, HSTU_EINVAL, 0, "option --pad_attention wants --protocol sessions, found %s",
            run->replay ? "replay" : "leave-one-out");
    if (run->slide_step > 1 && run->slide_step > run->window)
        return hs_fail(err, HSTU_EINVAL, 0,
            "option --slide_step wants at most %lld, the events of a history that are used, found %lld",
            (long long)run->window, (long long)run->slide_step);
    return HSTU_OK;
}

hstu_status hs_run_settings(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    run->replay = is_replay(value);
    if (run->ranking) {
        set_rules(run, value);
    } else {
        set_history(run, value);
        set_window(run, value);
        set_top_k(run, &value[HS_RUN_TOP_K]);
    }
    set_replay(run, value);
    set_cache(run, value);
    run->pad_attention = value[HS_RUN_PAD_ATTENTION].given;
    run->slide_step = number_or(&value[HS_RUN_SLIDE_STEP], 1);
    run->micro_batch = value[HS_RUN_MICRO_BATCH].number;
    run->batch_size =
        number_or(&value[HS_RUN_BATCH_SIZE], run->replay                        ? 1
                                             : run->info.default_batch_size > 0 ? run->info.default_batch_size
                                                                                : 128);
    run->warmup = number_or(&value[HS_RUN_WARMUP], run->info.default_warmup);
    run->steps = value[HS_RUN_STEPS].number;
    run->seed = (uint64_t)value[HS_RUN_SEED].number;
    run->dump_logits = value[HS_RUN_DUMP_LOGITS].given;
    run->profile = value[HS_RUN_PROFILE].given;
    run->candidates_path = value[HS_RUN_CANDIDATES].text;
    run->output_path = value[HS_RUN_OUTPUT].text;
    /* A replay's target may well be an item that the user has seen. */
    run->filter_seen = number_or(&value[HS_RUN_FILTER_SEEN],
                           !run->replay && run->history.protocol == HSTU_PROTOCOL_LEAVE_ONE_OUT) != 0;
    return check(run, err);
}

/* ---- what goes together ----------------------------------------------------------------------------------------- */

static hstu_status refuse_requests_with(const hs_option_value *value, hstu_error *err)
{
    static const int clash[] = {HS_RUN_STEPS, HS_RUN_OUTPUT, HS_RUN_WARMUP, HS_RUN_PROTOCOL, HS_RUN_DROP_DUPLICATES,
        HS_RUN_MIN_EVENTS, HS_RUN_TIME_INTERVAL_S, HS_RUN_MAX_SEQUENCES, HS_RUN_MAX_SEQUENCE_LENGTH, HS_RUN_MAX_HISTORY,
        HS_RUN_MAX_CANDIDATES, HS_RUN_TRUNCATION, HS_RUN_SPLIT, HS_RUN_BATCH_TS_INTERVAL, HS_RUN_PROFILE};
    for (size_t i = 0; i < sizeof clash / sizeof *clash && value[HS_RUN_REQUESTS].given; i++) {
        if (value[clash[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0, "options --requests and --%s exclude each other: give one of them",
                hs_run_options[clash[i]].name);
    }
    return HSTU_OK;
}

static hstu_status check_cache_options(const hs_option_value *value, hstu_error *err)
{
    static const int of_cache[] = {
        HS_RUN_KV_CACHE_BYTES, HS_RUN_KV_PAGE_TOKENS, HS_RUN_KV_CACHE_LOAD, HS_RUN_KV_CACHE_SAVE, HS_RUN_VERIFY_CACHE};
    for (size_t i = 0; i < sizeof of_cache / sizeof *of_cache && !value[HS_RUN_KV_CACHE].given; i++) {
        if (value[of_cache[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s means nothing without --kv_cache: give both or neither",
                hs_run_options[of_cache[i]].name);
    }
    if (value[HS_RUN_KV_PAGE_TOKENS].number % 32 != 0)
        return hs_fail(err, HSTU_EINVAL, 0, "option --kv_page_tokens wants a multiple of 32, found %lld",
            (long long)value[HS_RUN_KV_PAGE_TOKENS].number);
    return HSTU_OK;
}

hstu_status hs_run_check_usage(const hs_option_value *value, hstu_error *err)
{
    static const int of_others[] = {HS_RUN_TIME_INTERVAL_S, HS_RUN_MAX_SEQUENCES, HS_RUN_MAX_SEQUENCE_LENGTH,
        HS_RUN_MAX_CANDIDATES, HS_RUN_TRUNCATION, HS_RUN_SPLIT};
    const bool replay = is_replay(value);
    HS_TRY(refuse_requests_with(value, err));
    HS_TRY(check_cache_options(value, err));
    HS_TRY(hs_run_npu_check_usage(value, err));
    if (value[HS_RUN_BATCH_TS_INTERVAL].given && !replay)
        return hs_fail(err, HSTU_EINVAL, 0, "option --batch_ts_interval means nothing without --protocol replay");
    if (value[HS_RUN_SLIDE_STEP].given && !replay && !value[HS_RUN_REQUESTS].given)
        return hs_fail(
            err, HSTU_EINVAL, 0, "option --slide_step means nothing without --protocol replay or --requests");
    for (size_t i = 0; i < sizeof of_others / sizeof *of_others && replay; i++) {
        if (value[of_others[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s means nothing to --protocol replay: leave it out",
                hs_run_options[of_others[i]].name);
    }
    return HSTU_OK;
}

hstu_status hs_run_check_family(hs_run *run, const hs_option_value *value, hstu_error *err)
{
    static const int of_ranking[] = {
        HS_RUN_MAX_HISTORY, HS_RUN_MAX_CANDIDATES, HS_RUN_TRUNCATION, HS_RUN_SPLIT, HS_RUN_MICRO_BATCH};
    static const int of_others[] = {HS_RUN_SEQUENCE_LENGTH, HS_RUN_TOP_K, HS_RUN_FILTER_SEEN, HS_RUN_CANDIDATES,
        HS_RUN_ITEM_ID_OFFSET, HS_RUN_DROP_DUPLICATES, HS_RUN_MIN_EVENTS, HS_RUN_TIME_INTERVAL_S, HS_RUN_MAX_SEQUENCES,
        HS_RUN_MAX_SEQUENCE_LENGTH};
    const char *family = run->info.family;
    run->ranking = strcmp(family, "ranking") == 0;
    const int *wrong = run->ranking ? of_others : of_ranking;
    const size_t n = run->ranking ? sizeof of_others / sizeof *of_others : sizeof of_ranking / sizeof *of_ranking;
    const hs_option_value *protocol = &value[HS_RUN_PROTOCOL];
    if (protocol->given && !is_replay(value) && (protocol->number == HS_RUN_RANKING) != run->ranking)
        return hs_fail(err, HSTU_EINVAL, 0, "option --protocol wants %s for a model of the family %s, found '%s'",
            run->ranking ? "ranking or replay" : "sessions, leave-one-out or replay", family, protocol->text);
    for (size_t i = 0; i < n; i++) {
        if (value[wrong[i]].given)
            return hs_fail(err, HSTU_EINVAL, 0, "option --%s means nothing to a model of the family %s: leave it out",
                hs_run_options[wrong[i]].name, family);
    }
    if (value[HS_RUN_PAD_ATTENTION].given && strcmp(family, "decoder") != 0)
        return hs_fail(
            err, HSTU_EINVAL, 0, "option --pad_attention wants a model of the family decoder, found %s", family);
    return HSTU_OK;
}

void hs_run_warn_void(hs_run *run, const hs_option_value *value)
{
    static const int rules[] = {HS_RUN_DROP_DUPLICATES, HS_RUN_TIME_INTERVAL_S, HS_RUN_MAX_SEQUENCES,
        HS_RUN_MAX_SEQUENCE_LENGTH, HS_RUN_MIN_EVENTS};
    const hstu_dataset_kind kind = run->dataset_info.kind;
    const bool sessions = !run->replay && run->history.protocol == HSTU_PROTOCOL_SESSIONS;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const bool of_users = rules[i] == HS_RUN_DROP_DUPLICATES || rules[i] == HS_RUN_MIN_EVENTS;
        if (!value[rules[i]].given)
            continue;
        if (kind != HSTU_DATASET_EVENTS && rules[i] != HS_RUN_MIN_EVENTS)
            hs_console_warn(&run->console, "--%s has no effect on %s: only a sequences.safetensors keeps whole logs",
                hs_run_options[rules[i]].name, run->dataset_info.name);
        else if (of_users == sessions)
            hs_console_warn(&run->console, "--%s has no effect with the protocol %s", hs_run_options[rules[i]].name,
                sessions ? "sessions" : "leave-one-out");
    }
    if (kind == HSTU_DATASET_SASREC && value[HS_RUN_ITEM_ID_OFFSET].given)
        hs_console_warn(&run->console, "--item_id_offset has no effect on %s: its ids are the model's already",
            run->dataset_info.name);
}
