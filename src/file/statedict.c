/* Named tensors that lie in a mapped file. */
#include "file/statedict.h"

#include "base/error.h"

#include <string.h>

const hs_entry *hs_statedict_find(const hs_statedict *dict, const char *group, const char *name)
{
    for (size_t i = 0; i < dict->n_entries; i++) {
        if (strcmp(dict->entry[i].name, name) == 0 && strcmp(dict->entry[i].group, group) == 0)
            return &dict->entry[i];
    }
    return NULL;
}

const char *hs_statedict_metadata(const hs_statedict *dict, const char *key)
{
    for (size_t i = 0; i < dict->n_metadata; i++) {
        if (strcmp(dict->metadata[i].key, key) == 0)
            return dict->metadata[i].value;
    }
    return NULL;
}

void hs_statedict_mention_unread(const hs_statedict *dict, hstu_error *err)
{
    if (!err || dict->n_unread == 0)
        return;
    char sentence[sizeof err->msg];
    memcpy(sentence, err->msg, sizeof sentence);
    (void)hs_fail(err, err->code, err->pos,
        "%s; tensors of kinds that are not supported: %zu (the first: '%.80s', %.80s)", sentence, dict->n_unread,
        dict->unread_name, dict->unread_kind);
}

void hs_statedict_close(hs_statedict *dict)
{
    hs_arena_free(&dict->arena);
    hs_mapfile_close(&dict->map);
    *dict = (hs_statedict){0};
}
