/* Which data set's files lie in a folder. */
#define _XOPEN_SOURCE 700 /* realpath */

#include "cli/inspect_data.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/folder.h"
#include "base/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What preprocessing writes; the earlier one of two sequence files says more. */
static const struct {
    const char *name;
    bool sequences;
} written[] = {{"sequences.safetensors", true}, {"processed_seqs.csv", true}, {"sasrec_format.csv", true},
    {"processed_inference_sequences.csv", true}, {"metadata.json", false}, {"candidates.txt", false},
    {"item_ids.csv", false}, {"user_ids.csv", false}};
enum { N_WRITTEN = sizeof written / sizeof written[0] };

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

const char *hs_data_file_set(const char *name)
{
    if (strcmp(name, "ratings.dat") == 0 || strcmp(name, "users.dat") == 0 || strcmp(name, "movies.dat") == 0)
        return "ml-1m";
    if (strcmp(name, "ratings.csv") == 0 || strcmp(name, "movies.csv") == 0)
        return "ml-20m";
    if (!begins(name, "log_standard_") && !begins(name, "log_random_") && !begins(name, "user_features_") &&
        !begins(name, "video_features_"))
        return NULL;
    if (strstr(name, "_pure.csv"))
        return "KuaiRand-Pure";
    if (strstr(name, "_27k.csv") || strstr(name, "_27k_part"))
        return "KuaiRand-27K";
    return strstr(name, "_1k.csv") ? "KuaiRand-1K" : NULL;
}

static void add_file(hs_data_folder *out, const char *folder, const char *below, const char *name, bool sequences)
{
    hs_path path;
    struct stat st;
    hs_data_file *file = &out->file[out->n];
    if (out->n == HS_DATA_FOLDER_FILES || hs_path_join(&path, folder, name, NULL) != HSTU_OK ||
        stat(path.text, &st) != 0 || !S_ISREG(st.st_mode) ||
        snprintf(file->name, sizeof file->name, "%s%s", below, name) >= (int)sizeof file->name)
        return;
    file->bytes = (uint64_t)st.st_size;
    file->sequences = sequences;
    if (sequences && !out->best[0])
        (void)memcpy(out->best, path.text, sizeof path.text);
    out->n++;
}

static hstu_status add_raw(hs_data_folder *out, const char *folder, const char *below, hstu_error *err)
{
    hs_folder names = {0};
    if (!hs_path_is_folder(folder))
        return HSTU_OK;
    HS_TRY(hs_folder_list(&names, folder, err));
    for (size_t i = 0; i < names.n; i++) {
        const char *set = hs_data_file_set(names.name[i]);
        const size_t before = out->n;
        if (set)
            add_file(out, folder, below, names.name[i], false);
        if (out->n > before && !out->set)
            out->set = set;
    }
    hs_folder_free(&names);
    return HSTU_OK;
}

/* "a/b" becomes "a", "a" becomes ".", "." stays what it is in the end: "..". */
static void cut_path(char *text, size_t size)
{
    char *slash = strrchr(text, '/');
    if (slash && slash > text)
        *slash = '\0';
    else
        (void)snprintf(text, size, "%s", slash ? "/" : strcmp(text, ".") == 0 ? ".." : ".");
}

/* The option that preprocess needs is the folder above <set>/ or <set>/data/. */
static void make_command(hs_data_folder *out, const char *path)
{
    char root[1024];
    const char *base = hs_path_base(path);
    /* "." and ".." do not tell their names. */
    char *whole = base[0] == '.' || base[0] == '\0' ? realpath(path, NULL) : NULL;
    (void)snprintf(root, sizeof root, "%s", whole && strlen(whole) < sizeof root ? whole : path);
    hs_free(whole);
    if (strcmp(hs_path_base(root), "data") == 0)
        cut_path(root, sizeof root);
    cut_path(root, sizeof root);
    (void)snprintf(
        out->command, sizeof out->command, "hstu preprocess --dataset_name %s --data_root %s", out->set, root);
}

hstu_status hs_data_folder_read(hs_data_folder *out, const char *path, hstu_error *err)
{
    hs_path data;
    memset(out, 0, sizeof *out);
    HS_TRY(hs_path_join(&data, path, "data", err));
    HS_TRY(add_raw(out, data.text, "data/", err));
    HS_TRY(add_raw(out, path, "", err));
    for (size_t i = 0; i < N_WRITTEN; i++)
        add_file(out, path, "", written[i].name, written[i].sequences);
    if (out->set)
        make_command(out, path);
    return HSTU_OK;
}
