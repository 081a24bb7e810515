/* The report of a ranking model: metrics of every task. */
#include "cli/run_report.h"

static const char *const kuairand_task[] = {
    "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"};

enum { N_KUAIRAND_TASKS = sizeof kuairand_task / sizeof *kuairand_task, MAX_TASK_NAME = 32 };

static void name_task(char name[MAX_TASK_NAME], const hs_run *run, int64_t t)
{
    if (run->info.n_tasks == N_KUAIRAND_TASKS)
        (void)snprintf(name, MAX_TASK_NAME, "%s", kuairand_task[t]);
    else
        (void)snprintf(name, MAX_TASK_NAME, "task%lld", (long long)t);
}

static bool has_auc(const hs_task *task)
{
    return task->auc.n_positive > 0 && task->auc.n_negative > 0;
}

static const char *truncation_name(hstu_truncation truncation)
{
    return truncation == HSTU_TRUNCATION_NEWEST ? "newest" : "oldest";
}

static const char *split_name(hstu_split split)
{
    return split == HSTU_SPLIT_TRAIN ? "train" : split == HSTU_SPLIT_ALL ? "all" : "test";
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static void put_number(hs_json_writer *w, const char *key, double x)
{
    hs_json_pair_double(w, key, x, HS_REPORT_DIGITS);
}

static void put_task(hs_json_writer *w, const hs_task *task)
{
    hs_json_begin(w, '{');
    put_number(w, "auc", task->auc.auc);
    hs_json_pair_bool(w, "auc_defined", has_auc(task));
    put_number(w, "standard_error", task->auc.standard_error);
    hs_json_pair_int(w, "positives", (int64_t)task->auc.n_positive);
    hs_json_pair_int(w, "negatives", (int64_t)task->auc.n_negative);
    put_number(w, "gauc", task->gauc.gauc);
    hs_json_pair_int(w, "gauc_users", (int64_t)task->gauc.n_users);
    put_number(w, "log_loss", task->loss.log_loss);
    put_number(w, "normalised_entropy", task->loss.normalised_entropy);
    put_number(w, "label_rate", task->loss.label_rate);
    hs_json_end(w, '}');
}

static void put_tasks(hs_json_writer *w, const hs_run *run, const hs_run_result *result)
{
    hs_json_key(w, "tasks");
    hs_json_begin(w, '{');
    for (int64_t t = 0; t < run->info.n_tasks; t++) {
        char name[MAX_TASK_NAME];
        name_task(name, run, t);
        hs_json_key(w, name);
        put_task(w, &result->task[t]);
    }
    hs_json_end(w, '}');
}

static void put_multiclass(hs_json_writer *w, const hs_run *run, const hstu_multiclass *m)
{
    hs_json_key(w, "multiclass");
    hs_json_begin(w, '{');
    put_number(w, "auc", m->auc);
    put_number(w, "log_loss", m->log_loss);
    put_number(w, "normalised_entropy", m->normalised_entropy);
    put_number(w, "accuracy", m->accuracy);
    hs_json_pair_int(w, "classes", run->info.n_classes);
    hs_json_pair_int(w, "classes_seen", (int64_t)m->n_classes_seen);
    hs_json_end(w, '}');
}

static void put_differences(hs_json_writer *w, const hs_run *run)
{
    hs_json_key(w, "differs_from_training");
    hs_json_begin(w, '[');
    hs_report_put_difference(w, "max_history", run->info.max_sequence_length, run->rules.max_history);
    if (!run->replay)
        hs_report_put_difference(w, "max_candidates", run->info.max_candidates, run->rules.max_candidates);
    if (run->rules.truncation == HSTU_TRUNCATION_NEWEST) {
        hs_json_begin(w, '{');
        hs_json_pair_text(w, "option", "truncation");
        hs_json_pair_text(w, "model", "oldest");
        hs_json_pair_text(w, "run", "newest");
        hs_json_end(w, '}');
    }
    hs_json_end(w, ']');
}

/* Where the requests come from, and how large they are. */
static void put_requests(hs_json_writer *w, const hs_run *run, const hs_run_result *result)
{
    hs_json_pair_text(w, "protocol", run->replay ? "replay" : "ranking");
    if (!run->replay) {
        hs_json_pair_text(w, "truncation", truncation_name(run->rules.truncation));
        hs_json_pair_text(w, "split", split_name(run->rules.split));
    }
    hs_json_pair_int(w, "n_candidates", result->n_targets);
    hs_json_pair_int(w, "max_history", run->rules.max_history);
    if (!run->replay)
        hs_json_pair_int(w, "max_candidates", run->rules.max_candidates);
}

static void put_skipped(hs_json_writer *w, const hstu_ranking_samples *samples)
{
    hs_json_key(w, "skipped");
    hs_json_begin(w, '{');
    hs_json_pair_int(w, "too_few_events", samples->n_short);
    hs_json_pair_int(w, "incomplete", samples->n_incomplete);
    hs_json_end(w, '}');
}

void hs_report_put_ranking(hs_json_writer *w, const hs_run *run, const hs_run_result *result)
{
    if (result->task)
        put_tasks(w, run, result);
    else
        put_multiclass(w, run, &result->multiclass);
    hs_report_put_model(w, run);
    put_requests(w, run, result);
    hs_json_pair_int(w, "attention_n", run->info.attention_n);
    hs_json_pair_bool(w, "contextual_mask", run->info.contextual_mask != 0);
    if (run->replay)
        hs_report_put_replay(w, run, result);
    else
        put_skipped(w, run->ranking_samples);
    hs_json_pair_bool(w, "random_weights", run->info.random_weights != 0);
    hs_json_pair_int(w, "seed", (int64_t)run->seed);
    put_differences(w, run);
}

/* ---- table ------------------------------------------------------------------------------------------------------ */

void hs_report_print_ranking(FILE *out, const hs_run *run, const hs_run_result *result)
{
    const hstu_multiclass *m = &result->multiclass;
    if (run->replay)
        (void)fprintf(out, "  %lld candidates, intervals of %lld s\n", (long long)result->n_targets,
            (long long)run->replay_rules.interval_s);
    else
        (void)fprintf(out, "  %lld candidates, %s split, %s events\n", (long long)result->n_targets,
            split_name(run->rules.split), truncation_name(run->rules.truncation));
    if (!result->task) {
        (void)fprintf(out,
            "  AUC %.5f, log loss %.5f, normalised entropy %.5f, accuracy %.5f, %llu of %lld classes\n\n", m->auc,
            m->log_loss, m->normalised_entropy, m->accuracy, (unsigned long long)m->n_classes_seen,
            (long long)run->info.n_classes);
        return;
    }
    (void)fprintf(
        out, "  %-18s%-22s%10s%10s%9s%10s%10s\n", "", "    AUC", "positives", "GAUC", "users", "log loss", "NE");
    for (int64_t t = 0; t < run->info.n_tasks; t++) {
        const hs_task *task = &result->task[t];
        char name[MAX_TASK_NAME], auc[40];
        name_task(name, run, t);
        if (has_auc(task))
            (void)snprintf(auc, sizeof auc, "%.5f +- %.5f", task->auc.auc, task->auc.standard_error);
        else
            (void)snprintf(auc, sizeof auc, "none: one label only");
        (void)fprintf(out, "  %-18s%-22s%10llu%10.5f%9llu%10.5f%10.5f\n", name, auc,
            (unsigned long long)task->auc.n_positive, task->gauc.gauc, (unsigned long long)task->gauc.n_users,
            task->loss.log_loss, task->loss.normalised_entropy);
    }
    (void)fputc('\n', out);
}
