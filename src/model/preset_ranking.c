/* The built-in configurations of ranking models: the sizes of the reference's gin files (NVIDIA/recsys-examples, examples/hstu),
 * its features and its tables. */
#include "model/preset.h"

#include "model/config_keys.h"

#include <stdio.h>
#include <strings.h>

/* KuaiRand's contextual features in token order. Their texts are numbered from 1, so a table needs one row more than there are
 * texts. The Pure set has 9, 8, 9, 7 and 8 of them, one more than the reference's tables have room for in some sets: each table
 * here has a spare row beyond, for a text that only another set holds. No table is smaller than the reference's. */
static const struct {
    const char *name;
    int64_t rows;
} kuairand_feature[] = {
    {"user_active_degree", 11},
    {"follow_user_num_range", 10},
    {"fans_user_num_range", 11},
    {"friend_user_num_range", 9},
    {"register_days_range", 10},
};
enum { N_KUAIRAND = sizeof kuairand_feature / sizeof kuairand_feature[0], ACTION_MASKS = 256 };

/* Rows of the reference's tables: the features above, then the action. */
static const struct {
    const char *dataset;
    int64_t rows[N_KUAIRAND + 1];
} kuairand[] = {
    {"KuaiRand-1K", {8, 9, 9, 8, 8, 233}},
    {"KuaiRand-Pure", {10, 9, 10, 8, 8, 226}},
    {"KuaiRand-27K", {10, 9, 10, 8, 8, 246}},
};

/* MovieLens 1M's contextual features, numbered from 1 likewise. Its tables are the reference's. */
static const struct {
    const char *name;
    int64_t rows;
} movielens_feature[] = {{"sex", 3}, {"age_group", 8}, {"occupation", 22}, {"zip_code", 3440}};
enum { N_MOVIELENS = sizeof movielens_feature / sizeof movielens_feature[0], RATINGS = 11 };

typedef struct preset {
    const char *name, *dataset;
    int64_t dim, layers, max_history, max_candidates, batch_size;
    bool contextual_mask;
    int64_t classes, tasks;
} preset;

static const preset presets[] = {
    {"kuairand_1k_ranking", "KuaiRand-1K", 512, 3, 4096, 100, 8, false, 8, 8},
    {"kuairand_pure_ranking", "KuaiRand-Pure", 128, 1, 910, 20, 32, true, 8, 8},
    {"kuairand_27k_ranking", "KuaiRand-27K", 128, 1, 8000, 256, 32, true, 8, 8},
    {"ml_20m_ranking", "ml-20m", 128, 1, 200, 20, 128, true, 10, 1}, /* a class for each rating from 0.5 to 5.0 */
};

static void mark_given(hs_config *config, const char *key)
{
    hs_key_mark_given(config, hs_key_find(key, HS_CONFIG_RANKING));
}

static void name_feature(hs_config_feature *feature, const char *name)
{
    (void)snprintf(feature->name, sizeof feature->name, "%s", name);
    (void)snprintf(feature->table, sizeof feature->table, "%s", name);
}

static void add_table(hs_config *config, const char *name, int64_t rows, int64_t reference_rows)
{
    hs_config_table *table = &config->table[config->n_tables++];
    *table = (hs_config_table){.dynamic = rows == 0, .rows = rows, .reference_rows = reference_rows};
    (void)snprintf(table->name, sizeof table->name, "%s", name);
}

/* The features that every user has, then, behind those that differ, the item and the action. */
static void begin_features(hs_config *config)
{
    config->n_context = 1;
    config->n_tables = 0;
    name_feature(&config->context[0], "user_id");
    add_table(config, "user_id", 0, 0);
}

static void add_context(hs_config *config, const char *name, int64_t rows, int64_t reference_rows)
{
    name_feature(&config->context[config->n_context++], name);
    add_table(config, name, rows, reference_rows);
}

static void end_features(hs_config *config, const char *item, const char *action, int64_t rows, int64_t reference_rows)
{
    name_feature(&config->item, item);
    name_feature(&config->action, action);
    (void)snprintf(config->action.table, sizeof config->action.table, "action_weights"); /* whatever the action is */
    add_table(config, item, 0, 0);
    add_table(config, "action_weights", rows, reference_rows);
    mark_given(config, "contextual");
    mark_given(config, "item_feature");
    mark_given(config, "action_feature");
    mark_given(config, "tables");
    mark_given(config, "feature_to_table");
}

static bool use_kuairand(hs_config *config, const char *dataset)
{
    for (size_t i = 0; i < sizeof kuairand / sizeof kuairand[0]; i++) {
        if (strcasecmp(kuairand[i].dataset, dataset) != 0)
            continue;
        config->dataset = kuairand[i].dataset;
        begin_features(config);
        for (int f = 0; f < N_KUAIRAND; f++)
            add_context(config, kuairand_feature[f].name, kuairand_feature[f].rows, kuairand[i].rows[f]);
        end_features(config, "video_id", "action_weights", ACTION_MASKS, kuairand[i].rows[N_KUAIRAND]);
        return true;
    }
    return false;
}

static bool use_movielens(hs_config *config, const char *dataset)
{
    const bool with_users = strcasecmp(dataset, "ml-1m") == 0;
    if (!with_users && strcasecmp(dataset, "ml-20m") != 0)
        return false;
    config->dataset = with_users ? "ml-1m" : "ml-20m";
    begin_features(config);
    for (int f = 0; f < N_MOVIELENS && with_users; f++)
        add_context(config, movielens_feature[f].name, movielens_feature[f].rows, 0);
    end_features(config, "movie_id", "rating", RATINGS, 0);
    return true;
}

bool hs_preset_use_dataset(hs_config *config, const char *dataset)
{
    return use_kuairand(config, dataset) || use_movielens(config, dataset);
}

const char *hs_preset_ranking_name(size_t i)
{
    return i < sizeof presets / sizeof presets[0] ? presets[i].name : NULL;
}

static void give(hs_config *config, const char *key, int64_t value)
{
    (void)hs_config_settle(config, key, value, config->source, NULL); /* the table's sizes are in range */
}

void hs_preset_make_ranking(hs_config *out, size_t i)
{
    const preset *p = &presets[i];
    hs_config_init(out, HS_CONFIG_RANKING, p->name);
    (void)hs_preset_use_dataset(out, p->dataset);
    give(out, "hidden_size", p->dim);
    give(out, "num_layers", p->layers);
    give(out, "num_attention_heads", 4);
    give(out, "kv_channels", 128);
    give(out, "num_position_buckets", 8192);
    give(out, "max_history_seqlen", p->max_history);
    give(out, "max_num_candidates", p->max_candidates);
    give(out, "contextual_mask", p->contextual_mask);
    give(out, "batch_size", p->batch_size);
    out->head[0] = 512;
    out->head[1] = p->classes;
    out->n_head = 2;
    mark_given(out, "prediction_head_arch");
    give(out, "num_tasks", p->tasks);
    (void)hs_config_derive(out, NULL); /* cannot fail: the sizes fit each other */
}
