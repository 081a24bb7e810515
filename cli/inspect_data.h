/* `hstu inspect` on data: sequence files, and folders with a data set. */
#ifndef HS_CLI_INSPECT_DATA_H
#define HS_CLI_INSPECT_DATA_H

#include "cli/progress.h"
#include "hstu/dataset.h"

#include <stdbool.h>

enum { HS_DATA_FOLDER_FILES = 128 };

/* A file that belongs to a data set. */
typedef struct hs_data_file {
    char name[256]; /* below the folder: "data/log_..." */
    uint64_t bytes;
    bool sequences; /* `hstu run` reads it */
} hs_data_file;

typedef struct hs_data_folder {
    hs_data_file file[HS_DATA_FOLDER_FILES]; /* raw files by name, then what preprocessing wrote */
    size_t n;
    const char *set;    /* the data set whose raw files are there; NULL: none is */
    char command[1280]; /* that preprocesses them */
    char best[1024];    /* path of the sequence file that says most; "" when there is none */
} hs_data_folder;

/* Whether `path` is a sequence file, or a folder with files of a data set, or one with folders of data sets. */
bool hs_inspect_is_data(const char *path);
/* Prints the summary, as text or as one JSON document. */
hstu_status hs_inspect_data(const char *path, bool json, hs_console *console, hstu_error *err);

/* Looks for a data set's files in a folder and its folder data. Without a set and a sequence file it is no data set's. */
hstu_status hs_data_folder_read(hs_data_folder *out, const char *path, hstu_error *err);
/* The data set to which a raw file belongs, by its name alone; NULL when it is none. */
const char *hs_data_file_set(const char *name);
/* The names of the actions' bits. */
extern const char *const hs_action_name[8];
/* "2022-04-08 00:00:00", UTC. */
void hs_format_time(int64_t ms, char out[32]);

/* summary and name NULL: a folder without a sequence file. folder NULL: a file alone. */
hstu_status hs_inspect_data_json(const char *path, const hs_data_folder *folder, const hstu_dataset_info *info,
    const hstu_summary *summary, hstu_error *err);

#endif
