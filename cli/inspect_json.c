/* What `hstu inspect` tells as JSON. */
#include "cli/inspect_json.h"

#include "base/dynbuf.h"
#include "base/error.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

const char *hs_inspect_use_name(hstu_tensor_use use)
{
    switch (use) {
    case HSTU_TENSOR_BOUND:
        return "weight";
    case HSTU_TENSOR_IGNORED:
        return "ignored";
    case HSTU_TENSOR_EXTRA:
        return "extra";
    case HSTU_TENSOR_UNKNOWN:
        break;
    }
    return "unknown";
}

hstu_status hs_inspect_put_config(hs_json_writer *w, const char *config, hstu_error *err)
{
    cJSON *root = NULL;
    const cJSON *child = NULL;
    if (!config) {
        hs_json_put_text(w, NULL);
        return HSTU_OK;
    }
    HS_TRY(hs_json_parse(&root, config, strlen(config), "the configuration", err));
    hs_json_begin(w, '{');
    cJSON_ArrayForEach(child, root)
    {
        char *value = cJSON_PrintUnformatted(child);
        hs_json_key(w, child->string);
        if (value)
            hs_json_put_raw(w, value, strlen(value));
        else
            w->failed = true;
        cJSON_free(value);
    }
    hs_json_end(w, '}');
    cJSON_Delete(root);
    return HSTU_OK;
}

static void put_tensor(hs_json_writer *w, const hstu_tensor_info *t, bool present)
{
    hs_json_begin(w, '{');
    if (present) {
        hs_json_key(w, "file_rank");
        hs_json_put_int(w, t->file_rank);
    }
    hs_json_key(w, "group");
    hs_json_put_text(w, t->group ? t->group : "");
    hs_json_key(w, "name");
    hs_json_put_text(w, t->name);
    hs_json_key(w, "shape");
    if (t->rank < 0) {
        hs_json_put_text(w, NULL);
    } else {
        hs_json_begin(w, '[');
        for (int i = 0; i < t->rank; i++)
            hs_json_put_int(w, t->shape[i]);
        hs_json_end(w, ']');
    }
    if (present) {
        hs_json_key(w, "dtype");
        hs_json_put_text(w, t->dtype);
        hs_json_key(w, "bytes");
        hs_json_put_int(w, (int64_t)t->bytes);
        hs_json_key(w, "use");
        hs_json_put_text(w, hs_inspect_use_name(t->use));
        hs_json_key(w, "reason");
        hs_json_put_text(w, t->reason);
    }
    hs_json_end(w, '}');
}

static hstu_status put_tables(
    hs_json_writer *w, const hstu_checkpoint *c, const hstu_checkpoint_info *info, hstu_error *err)
{
    hstu_table_info t;
    hs_json_key(w, "tables");
    hs_json_begin(w, '[');
    for (uint64_t i = 0; i < info->n_tables; i++) {
        HS_TRY(hstu_checkpoint_table(c, i, &t, err));
        hs_json_begin(w, '{');
        hs_json_key(w, "name");
        hs_json_put_text(w, t.name);
        hs_json_key(w, "kind");
        hs_json_put_text(w, t.is_dynamic ? "dynamic" : "static");
        hs_json_key(w, "rows");
        hs_json_put_int(w, (int64_t)t.rows);
        hs_json_key(w, "dim");
        hs_json_put_int(w, (int64_t)t.dim);
        hs_json_key(w, "bytes");
        hs_json_put_int(w, (int64_t)t.bytes);
        hs_json_key(w, "world_size");
        hs_json_put_int(w, t.world_size);
        hs_json_end(w, '}');
    }
    hs_json_end(w, ']');
    return HSTU_OK;
}

static hstu_status put_lists(
    hs_json_writer *w, const hstu_checkpoint *c, const hstu_checkpoint_info *info, hstu_error *err)
{
    hstu_tensor_info t;
    hs_json_key(w, "metadata");
    hs_json_begin(w, '{');
    for (uint64_t i = 0; i < info->n_metadata; i++) {
        const char *key = NULL, *value = NULL;
        HS_TRY(hstu_checkpoint_metadata(c, i, &key, &value, err));
        hs_json_key(w, key);
        hs_json_put_text(w, value);
    }
    hs_json_end(w, '}');
    HS_TRY(put_tables(w, c, info, err));
    hs_json_key(w, "tensors");
    hs_json_begin(w, '[');
    for (uint64_t i = 0; i < info->n_tensors; i++) {
        HS_TRY(hstu_checkpoint_tensor(c, i, &t, err));
        put_tensor(w, &t, true);
    }
    hs_json_end(w, ']');
    hs_json_key(w, "missing");
    hs_json_begin(w, '[');
    for (uint64_t i = 0; i < info->n_missing; i++) {
        HS_TRY(hstu_checkpoint_missing(c, i, &t, err));
        put_tensor(w, &t, false);
    }
    hs_json_end(w, ']');
    return HSTU_OK;
}

hstu_status hs_inspect_print_json(const hstu_checkpoint *c, const char *path, hstu_error *err)
{
    hs_dynbuf out;
    hs_json_writer w;
    hstu_checkpoint_info info;
    const char *config = hstu_checkpoint_config(c);
    hstu_checkpoint_get_info(c, &info);
    hs_dynbuf_init(&out, HS_INSPECT_MAX_JSON_BYTES);
    hs_json_writer_init(&w, &out, 2);
    hs_json_begin(&w, '{');
    hs_json_key(&w, "file");
    hs_json_put_text(&w, path);
    hs_json_key(&w, "format");
    hs_json_put_text(&w, info.format);
    hs_json_key(&w, "layout");
    hs_json_put_text(&w, info.layout);
    hs_json_key(&w, "ranks");
    hs_json_put_int(&w, info.n_ranks);
    hs_json_key(&w, "tensor_parallel");
    hs_json_put_int(&w, info.tensor_parallel);
    hs_json_key(&w, "family");
    hs_json_put_text(&w, info.family);
    hs_json_key(&w, "not_supported");
    hs_json_put_text(&w, info.not_supported);
    hs_json_key(&w, "config");
    hstu_status status = hs_inspect_put_config(&w, config, err);
    if (status == HSTU_OK)
        status = put_lists(&w, c, &info, err);
    hs_json_end(&w, '}');
    if (status == HSTU_OK && (w.failed || !hs_dynbuf_append_text(&out, "\n")))
        status = hs_fail_nomem(err, HS_INSPECT_MAX_JSON_BYTES, "the listing");
    if (status == HSTU_OK)
        (void)fwrite(out.data, 1, out.len, stdout); /* checked when the program ends */
    hs_dynbuf_free(&out);
    return status;
}
