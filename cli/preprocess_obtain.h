/* The raw files of a data set whose place is known: downloaded or at hand, verified, unpacked. */
#ifndef HS_CLI_PREPROCESS_OBTAIN_H
#define HS_CLI_PREPROCESS_OBTAIN_H

#include "base/path.h"
#include "cli/progress.h"
#include "hstu/fetch.h"

#include <stdbool.h>
#include <stddef.h>

enum { HS_OBTAIN_MAX_FILES = 16 };

typedef struct hs_obtain {
    const hstu_known_dataset *known;
    const char *dataset_name, *data_root; /* as given */
    const char *archive;                  /* a file at hand, or NULL */
    const char *url;                      /* instead of the known one, or NULL */
    const char *checksum;                 /* or NULL; "none": whatever it is */
    bool quiet;                           /* says nothing of what it begins to do */
    hs_console *console;
    /* Filled. */
    hs_path folder;                    /* where files were unpacked */
    hs_path made[HS_OBTAIN_MAX_FILES]; /* [n_made] the files that were unpacked */
    size_t n_made;
    char origin[512]; /* what was unpacked, and what it was verified by */
} hs_obtain;

/* The data set of that name, by the rules of hstu_preprocess; NULL for others. */
const hstu_known_dataset *hs_obtain_known(const char *dataset_name);
/* Unpacks obtain->archive. */
hstu_status hs_obtain_archive(hs_obtain *obtain, hstu_error *err);
/* Downloads the archive into data_root, unpacks it and removes it. After an error it may be called again, and goes on where it
 * ended. */
hstu_status hs_obtain_download(hs_obtain *obtain, hstu_error *err);
/* Removes the files that were unpacked, and their folder when it is empty. */
void hs_obtain_remove(hs_obtain *obtain);

#endif
