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
} reference[] = {
    {"KuaiRand-1K", {8, 9, 9, 8, 8, 233}},
    {"KuaiRand-Pure", {10, 9, 10, 8, 8, 226}},
    {"KuaiRand-27K", {10, 9, 10, 8, 8, 246}},
};

typedef struct preset {
    const char *name, *dataset;
    int64_t dim, layers, max_history, max_candidates, batch_size;
    bool contextual_mask;
} preset;

static const preset presets[] = {
    {"kuairand_1k_ranking", "KuaiRand-1K", 512, 3, 4096, 100, 8, false},
    {"kuairand_pure_ranking", "KuaiRand-Pure", 128, 1, 910, 20, 32, true},
    {"kuairand_27k_ranking", "KuaiRand-27K", 128, 1, 8000, 256, 32, true},
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

static void use_kuairand(hs_config *config, const int64_t *reference_rows)
{
    config->n_context = 1 + N_KUAIRAND;
    config->n_tables = 0;
    name_feature(&config->context[0], "user_id");
    add_table(config, "user_id", 0, 0);
    for (int i = 0; i < N_KUAIRAND; i++) {
        name_feature(&config->context[1 + i], kuairand_feature[i].name);
        add_table(config, kuairand_feature[i].name, kuairand_feature[i].rows, reference_rows[i]);
    }
    name_feature(&config->item, "video_id");
    name_feature(&config->action, "action_weights");
    add_table(config, "video_id", 0, 0);
    add_table(config, "action_weights", ACTION_MASKS, reference_rows[N_KUAIRAND]);
    mark_given(config, "contextual");
    mark_given(config, "item_feature");
    mark_given(config, "action_feature");
    mark_given(config, "tables");
    mark_given(config, "feature_to_table");
}

bool hs_preset_use_dataset(hs_config *config, const char *dataset)
{
    for (size_t i = 0; i < sizeof reference / sizeof reference[0]; i++) {
        if (strcasecmp(reference[i].dataset, dataset) != 0)
            continue;
        config->dataset = reference[i].dataset;
        use_kuairand(config, reference[i].rows);
        return true;
    }
    return false;
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
    out->head[1] = 8;
    out->n_head = 2;
    mark_given(out, "prediction_head_arch");
    (void)hs_config_derive(out, NULL); /* cannot fail: the sizes fit each other */
}
