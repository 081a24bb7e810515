/* hstu_fetch with every allocation failing in turn. */
#include "torture.h"

#include "fetch_support.h"

static hstu_status download(void *ctx, hstu_error *err)
{
    fetch_test *t = ctx;
    (void)unlink(t->path);
    return hstu_fetch(&t->options, &t->report, err);
}

static hstu_status look_at_existing(void *ctx, hstu_error *err)
{
    fetch_test *t = ctx;
    return hstu_fetch(&t->options, &t->report, err);
}

static void allocations_fail(void **state)
{
    fetch_test *t = *state;
    char record[512];
    const misdeed cut[] = {{.cut = true, .cut_at = 9000}};
    (void)snprintf(record, sizeof record, "{\"files\": [{\"key\": \"file.bin\", \"size\": %d, \"checksum\": \"%s\"}]}",
        BODY_BYTES, t->md5);
    server_texts(&t->server, record, NULL);
    t->options.record_url = t->record_url;
    server_plan(&t->server, cut, 1);
    torture(download, t, 5);
    assert_whole(t, t->body, BODY_BYTES);
    torture(look_at_existing, t, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(allocations_fail, fetch_setup, fetch_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
