/* Every allocation of ours fails once: the failure is told, and no file remains. */
#include "torture.h"

#include "archive_bytes.h"

static hstu_status unpack(void *ctx, hstu_error *err)
{
    const place *p = ctx;
    const hstu_unpack_options options = place_options(p);
    const hstu_status status = hstu_unpack(&options, NULL, err);
    const long left = torture_left;
    torture_left = 0; /* looking at the folder allocates too */
    assert_int_equal(place_empty(p->folder), status == HSTU_OK ? 2 : 0);
    torture_left = left;
    return status;
}

static void test_forms(void **state)
{
    static const zip_entry entry[] = {{.name = "a", .text = "1"}, {.name = "b/c", .text = "2"}};
    place p;
    (void)state;
    place_open(&p);
    for (int form = 0; form < 3; form++) {
        bytes b = {0};
        if (form == 2) {
            zip(&b, entry, 2);
        } else {
            tar_file(&b, "a", "1");
            tar_file(&b, "b/c", "2");
            if (form)
                tar_gz(&b);
            else
                tar_end(&b);
        }
        place_write(p.archive, b.data, b.n);
        put_free(&b);
        torture(unpack, &p, 10);
    }
    place_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
