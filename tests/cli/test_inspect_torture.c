/* Every allocation of looking at a sequence file and at a data set's folder fails once: each time an error, nothing leaked. */
#include "cli/inspect_data.h"

#include "torture.h"

#include <stdlib.h>
#include <sys/stat.h>

static char folder[64], sessions[128], empty_root[96];

static void write_text(const char *path, const char *text)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fputs(text, out) < 0, 0);
    assert_int_equal(fclose(out), 0);
}

typedef struct look {
    const char *path;
    bool json;
} look;

static hstu_status inspect(void *ctx, hstu_error *err)
{
    const look *l = ctx;
    hs_console console = {0};
    return hs_inspect_data(l->path, l->json, &console, err);
}

static void test_inspect(void **state)
{
    (void)state;
    for (int json = 0; json < 2; json++) {
        look file = {sessions, json}, all = {folder, json}, raw = {empty_root, json};
        torture_silently(inspect, &file, 4);
        torture_silently(inspect, &all, 6);
        torture_silently(inspect, &raw, 2);
    }
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/hstu_inspect_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(sessions, sizeof sessions, "%s/processed_inference_sequences.csv", folder);
    (void)snprintf(empty_root, sizeof empty_root, "%s/ml-1m", folder);
    write_text(sessions, "user_id,sequence,actions,length\n7,\"[5, 6]\",\"[1, 2]\",2\n");
    char path[128];
    (void)snprintf(path, sizeof path, "%s/log_standard_4_08_to_4_21_1k.csv", folder);
    write_text(path, "user_id\n");
    (void)snprintf(path, sizeof path, "%s/ratings.dat", empty_root);
    assert_int_equal(mkdir(empty_root, 0700), 0);
    write_text(path, "1::1::5::1\n");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inspect)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
