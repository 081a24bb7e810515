/* Data sets whose place is known. Sizes and MD5 of KuaiRand: its README (github.com/chongminggao/KuaiRand) and Zenodo's record
 * 10439422; MD5 of MovieLens: the .md5 files beside the archives. */
#include "hstu/fetch.h"

#include <strings.h>

#define KUAIRAND_FILES "https://zenodo.org/records/10439422/files/"
#define KUAIRAND_RECORD "https://zenodo.org/api/records/10439422"
#define MOVIELENS_FILES "https://files.grouplens.org/datasets/movielens/"

static const hstu_known_dataset known[] = {
    {.name = "KuaiRand-1K",
        .archive = "KuaiRand-1K.tar.gz",
        .url = KUAIRAND_FILES "KuaiRand-1K.tar.gz",
        .record_url = KUAIRAND_RECORD,
        .checksum = "md5:6b0b9c8222d67fcd4c676218edca3f1f",
        .archive_bytes = 1135436720,
        .unpacked_bytes = 4300000000},
    {.name = "KuaiRand-Pure",
        .archive = "KuaiRand-Pure.tar.gz",
        .url = KUAIRAND_FILES "KuaiRand-Pure.tar.gz",
        .record_url = KUAIRAND_RECORD,
        .checksum = "md5:0820331067a3784d9691136f772b35a7",
        .archive_bytes = 47432272,
        .unpacked_bytes = 194000000},
    {.name = "KuaiRand-27K",
        .archive = "KuaiRand-27K.tar.gz",
        .url = KUAIRAND_FILES "KuaiRand-27K.tar.gz",
        .record_url = KUAIRAND_RECORD,
        .checksum = "md5:3e3c799a24e2d23a4d2c757fbf9adf59",
        .archive_bytes = 9892191178,
        .unpacked_bytes = 46000000000},
    {.name = "ml-1m",
        .archive = "ml-1m.zip",
        .url = MOVIELENS_FILES "ml-1m.zip",
        .checksum_url = MOVIELENS_FILES "ml-1m.zip.md5",
        .checksum = "md5:c4d9eecfca2ab87c1945afe126590906"},
    {.name = "ml-20m",
        .archive = "ml-20m.zip",
        .url = MOVIELENS_FILES "ml-20m.zip",
        .checksum_url = MOVIELENS_FILES "ml-20m.zip.md5",
        .checksum = "md5:cd245b17a1ae2cc31bb14903e1204af3",
        .archive_bytes = 198702078},
};

const hstu_known_dataset *hstu_known_dataset_at(size_t i)
{
    return i < sizeof known / sizeof *known ? &known[i] : NULL;
}

const hstu_known_dataset *hstu_known_dataset_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++) {
        if (strcasecmp(known[i].name, name) == 0)
            return &known[i];
    }
    return NULL;
}
