/* MovieLens' files. The first byte tells which: 'r' ratings.dat, 'c' ratings.csv, 'u' users.dat, 'm' movies.dat; the rest is
 * the file. Ratings that are accepted are also written for both references. */
#include "fuzz_file.h"

#include "data/movielens.h"
#include "data/movielens_csv.h"

#include <string.h>

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

static void check_error(hstu_status status, const hstu_error *err)
{
    check(status == HSTU_EFORMAT && err->code == status && err->msg[0]);
}

static hstu_status put_both(void *ctx, const hs_event_block *block, hstu_error *err)
{
    hs_movielens_csv *const *csv = ctx;
    check(hs_movielens_csv_put(csv[0], block, err) == HSTU_OK);
    check(hs_movielens_csv_put(csv[1], block, err) == HSTU_OK);
    return HSTU_OK;
}

static void write_both(hs_eventsink *sink, bool halves, bool fractions)
{
    const hs_event_users all = hs_eventsink_users(sink);
    const hs_movielens_events from = {.all = &all, .halves = halves, .fractions = fractions};
    hs_movielens_csv *csv[2];
    const hs_block_consumer consumer = {.ctx = csv, .in_turn = put_both};
    hstu_error err;
    check(hs_sasrec_csv_open(&csv[0], "/dev/null", &from, &err) == HSTU_OK);
    check(hs_movielens_csv_open(&csv[1], "/dev/null", &from, &err) == HSTU_OK);
    check(hs_eventsink_visit(sink, &consumer, NULL, &err) == HSTU_OK);
    for (int i = 0; i < 2; i++) {
        hs_outfile *file = NULL;
        uint64_t n_rows = 0;
        check(hs_movielens_csv_finish(&file, csv[i], &n_rows, &err) == HSTU_OK && n_rows == (uint64_t)all.n);
        hs_outfile_discard(file);
    }
}

static hstu_status check_events(void *ctx, const hs_event_block *block, hstu_error *err)
{
    const int *n_classes = ctx;
    (void)err;
    for (int64_t i = 0; i < block->view.n_events; i++)
        check(block->view.action[i] < *n_classes && block->view.item[i] > 0);
    return HSTU_OK;
}

static void read_ratings(const hs_movielens_set *set, const char *path)
{
    const hs_eventsink_options options = {.memory_limit = 64 << 20, .threads = 1, .folder = "/tmp"};
    hs_eventsink *sink = NULL;
    hs_input_file file;
    bool fractions = false;
    hstu_error err = {0};
    check(hs_eventsink_open(&sink, &options, &err) == HSTU_OK);
    const hstu_status status = hs_movielens_read(set, path, sink, &fractions, &file, NULL, &err);
    if (status == HSTU_OK) {
        int n_classes = set->n_classes;
        const hs_block_consumer consumer = {.ctx = &n_classes, .in_turn = check_events};
        check(hs_eventsink_finish(sink, &err) == HSTU_OK);
        check(hs_eventsink_visit(sink, &consumer, NULL, &err) == HSTU_OK);
        write_both(sink, !set->dat, fractions);
    } else {
        check_error(status, &err);
    }
    hs_eventsink_close(sink);
}

static void read_users(const char *path)
{
    static const int64_t ids[] = {1, 2, 3};
    hs_mlusers users = {0};
    hs_features features = {0};
    hstu_error err = {0};
    const hstu_status status = hs_mlusers_read(&users, path, NULL, &err);
    if (status != HSTU_OK) {
        check_error(status, &err);
        return;
    }
    for (size_t c = 0; c < HS_ML_COLUMNS; c++) {
        for (size_t i = 0; i < users.n; i++) {
            check(users.first[c][i] >= 1 && (size_t)users.first[c][i] <= users.n_values[c]);
            check(users.sorted[c][i] >= 0 && (size_t)users.sorted[c][i] < users.n_values[c]);
            check(users.value[c][users.first[c][i] - 1] != NULL);
        }
    }
    check(hs_mlusers_features(&features, &users, ids, 3, &err) == HSTU_OK);
    hs_features_free(&features);
    hs_mlusers_free(&users);
}

static void read_movies(const hs_movielens_set *set, const char *path)
{
    hs_intlist movies = {0};
    hs_input_file file;
    hstu_error err = {0};
    const hstu_status status = hs_movielens_read_movies(&movies, set, path, &file, NULL, &err);
    if (status != HSTU_OK)
        check_error(status, &err);
    for (size_t i = 0; i < movies.n; i++)
        check(movies.value[i] > 0);
    hs_intlist_free(&movies);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *path = fuzz_file(data + 1, size - 1);
    if (data[0] == 'u')
        read_users(path);
    else if (data[0] == 'm')
        read_movies(hs_movielens_find("ml-1m"), path);
    else
        read_ratings(hs_movielens_find(data[0] == 'c' ? "ml-20m" : "ml-1m"), path);
    return 0;
}
