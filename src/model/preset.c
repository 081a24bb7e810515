/* The built-in configurations: the original's kuairand_gr, and the reference's gin files (spec: configs directory of
 * meta-recsys/generative-recommenders, public experiments). */
#include "model/preset.h"
#include "model/config.h"

#include <ctype.h>
#include <string.h>

typedef struct preset {
    const char *name;
    int main_module;
    int64_t max_sequence_length, dim, blocks, heads, dqk, dv, ffn, max_item_id;
    const char *dataset;
} preset;

static const preset presets[] = {
    /* The original's sizes in real HSTU layers. Its data decide how many items there are. First, and a decoder too. */
    {"kuairand_gr", HS_MODULE_HSTU, 128, 512, 6, 8, 64, 64, 0, 0, "KuaiRand-1K"},
    {"ml-1m", HS_MODULE_HSTU, 200, 50, 2, 1, 50, 50, 0, 3952, "ml-1m"},
    {"ml-1m-large", HS_MODULE_HSTU, 200, 50, 8, 2, 25, 25, 0, 3952, "ml-1m"},
    {"ml-1m-sasrec", HS_MODULE_SASREC, 200, 50, 2, 1, 0, 0, 50, 3952, "ml-1m"},
    {"ml-20m", HS_MODULE_HSTU, 200, 256, 4, 4, 64, 64, 0, 131262, "ml-20m"},
    {"ml-20m-large", HS_MODULE_HSTU, 200, 256, 16, 8, 32, 32, 0, 131262, "ml-20m"},
    {"ml-20m-sasrec", HS_MODULE_SASREC, 200, 256, 4, 4, 0, 0, 256, 131262, "ml-20m"},
    {"amzn-books", HS_MODULE_HSTU, 50, 64, 4, 4, 16, 16, 0, 695762, "amzn-books"},
    {"amzn-books-large", HS_MODULE_HSTU, 50, 64, 16, 8, 8, 8, 0, 695762, "amzn-books"},
    {"amzn-books-sasrec", HS_MODULE_SASREC, 50, 64, 4, 4, 0, 0, 64, 695762, "amzn-books"},
};

enum { N_RETRIEVAL = sizeof presets / sizeof presets[0] };

const char *hs_preset_name(size_t i)
{
    return i < N_RETRIEVAL ? presets[i].name : hs_preset_ranking_name(i - N_RETRIEVAL);
}

static int folded(char c)
{
    return c == '_' ? '-' : tolower((unsigned char)c);
}

static bool same_name(const char *a, const char *b)
{
    while (*a && folded(*a) == folded(*b)) {
        a++;
        b++;
    }
    return *a == *b;
}

/* Sizes become given: a tensor that says otherwise is a contradiction. None of them is out of range. */
static void give(hs_config *config, const char *key, int64_t value)
{
    if (value)
        (void)hs_config_settle(config, key, value, config->source, NULL);
}

static void apply_rules(hs_config *config)
{
    if (strcmp(config->dataset, "KuaiRand-1K") == 0) {
        config->protocol = HS_CONFIG_SESSIONS;
        config->batch_size = 2;
        config->top_k = 5;
    } else if (strcmp(config->dataset, "amzn-books") == 0) {
        config->shift_id_by = 1; /* its file counts items from 0 */
        config->min_events = 5;
    } else {
        config->min_events = 2;     /* MovieLens: every user with a target and one event before it */
        config->item_id_offset = 0; /* its ids are the model's, and all of its ratings count */
        config->drop_duplicates = false;
    }
}

static void make_retrieval(hs_config *out, const preset *p)
{
    hs_config_init(out, HS_CONFIG_RETRIEVAL, p->name);
    give(out, "max_sequence_length", p->max_sequence_length);
    (void)hs_config_settle(out, "main_module", p->main_module, p->name, NULL);
    give(out, "item_embedding_dim", p->dim);
    give(out, "num_blocks", p->blocks);
    give(out, "num_heads", p->heads);
    give(out, "dqk", p->dqk);
    give(out, "dv", p->dv);
    give(out, "ffn_hidden_dim", p->ffn);
    give(out, "max_item_id", p->max_item_id);
    out->dataset = p->dataset;
    out->sequence_length = p->max_sequence_length;
    apply_rules(out);
    (void)hs_config_derive(out, NULL); /* cannot fail: the table's sizes fit each other */
}

/* The original as it was: its heads have no effect. */
static void make_decoder(hs_config *out, const char *name)
{
    hs_config_init(out, HS_CONFIG_DECODER, name);
    give(out, "hidden_size", 512);
    give(out, "num_layers", 6);
    give(out, "num_heads", 8);
    give(out, "max_position_embeddings", 4096);
    out->dataset = "KuaiRand-1K";
    out->sequence_length = 128;
    apply_rules(out);
    (void)hs_config_derive(out, NULL); /* likewise */
}

bool hs_preset_find(hs_config *out, const char *name, int family)
{
    for (size_t i = 0; hs_preset_name(i); i++) {
        if (!same_name(hs_preset_name(i), name))
            continue;
        if (i >= N_RETRIEVAL)
            hs_preset_make_ranking(out, i - N_RETRIEVAL);
        else if (i == 0 && family == HS_CONFIG_DECODER)
            make_decoder(out, presets[i].name);
        else
            make_retrieval(out, &presets[i]);
        return true;
    }
    return false;
}
