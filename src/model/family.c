/* Recognising model families by the names of their tensors. */
#include "model/family.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool skip(const char **text, const char *prefix)
{
    if (!begins(*text, prefix))
        return false;
    *text += strlen(prefix);
    return true;
}

const char *hs_family_peel(const char *name)
{
    while (skip(&name, "module.") || skip(&name, "_orig_mod.") || skip(&name, "model.")) {}
    return name;
}

int64_t hs_family_layer(const char *name, const char *prefix, const char **rest)
{
    if (!skip(&name, prefix))
        return -1;
    int64_t number = 0;
    int digits = 0;
    for (; isdigit((unsigned char)*name) && digits < 9; digits++)
        number = 10 * number + (*name++ - '0');
    if (digits == 0 || *name != '.')
        return -1;
    *rest = name + 1;
    return number;
}

hs_config_family hs_family_config(hs_family family)
{
    if (family == HS_FAMILY_RANKING)
        return HS_CONFIG_RANKING;
    return family == HS_FAMILY_DECODER ? HS_CONFIG_DECODER : HS_CONFIG_RETRIEVAL;
}

typedef struct marks {
    bool hstu, sasrec, nv_block, nv_mlp, nv_preprocessing, dlrm, decoder;
} marks;

static void look_at(marks *m, const char *name)
{
    const char *rest = NULL;
    m->hstu |= hs_family_layer(name, "_hstu._attention_layers.", &rest) >= 0;
    m->sasrec |= hs_family_layer(name, "attention_layers.", &rest) >= 0 && strcmp(rest, "in_proj_weight") == 0;
    m->nv_block |= hs_family_layer(name, "_hstu_block._attention_layers.", &rest) >= 0;
    m->nv_mlp |= begins(name, "_mlp.");
    m->nv_preprocessing |= begins(name, "_hstu_block._preprocessor._item_mlp.") ||
                           begins(name, "_hstu_block._preprocessor._contextual_mlp.");
    m->dlrm |= begins(name, "_hstu_transducer._stu_module.");
    m->decoder |= hs_family_layer(name, "layers.", &rest) >= 0 && strcmp(rest, "q_proj.weight") == 0;
}

static hs_recognised decide(const marks *m, const char *group)
{
    hs_recognised found = {.group = group};
    if (m->hstu) {
        found.family = HS_FAMILY_HSTU;
        found.name = "retrieval HSTU";
    } else if (m->nv_block && m->nv_mlp) {
        found.family = HS_FAMILY_RANKING;
        found.name = "NVIDIA ranking HSTU";
        if (m->nv_preprocessing)
            found.not_supported = "preprocessing MLPs (_item_mlp, _contextual_mlp) are not part of this version";
    } else if (m->nv_block) {
        found.family = HS_FAMILY_NV_RETRIEVAL;
        found.name = "NVIDIA retrieval HSTU";
        found.not_supported =
            "NVIDIA's retrieval family (HSTU blocks without a prediction head) comes with a later version";
    } else if (m->dlrm) {
        found.family = HS_FAMILY_DLRM_V3;
        found.name = "DLRM-v3 HSTU";
        found.not_supported = "the dlrm_v3 family comes with a later version";
    } else if (m->sasrec) {
        found.family = HS_FAMILY_SASREC;
        found.name = "retrieval SASRec";
    } else if (m->decoder) {
        found.family = HS_FAMILY_DECODER;
        found.name = "plain decoder";
    }
    return found;
}

hs_recognised hs_family_recognise(const hs_statedict *dict)
{
    static const char *const groups[] = {"model_state_dict", "model", "state_dict", "dense_dict", ""};
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        marks m = {0};
        for (size_t i = 0; i < dict->n_entries; i++) {
            if (strcmp(dict->entry[i].group, groups[g]) == 0)
                look_at(&m, hs_family_peel(dict->entry[i].name));
        }
        const hs_recognised found = decide(&m, groups[g]);
        if (found.family != HS_FAMILY_UNKNOWN)
            return found;
    }
    return (hs_recognised){.family = HS_FAMILY_UNKNOWN, .group = ""};
}
