/* The device that tests of the op layer call. */
#ifndef HS_TESTS_OP_OP_TEST_H
#define HS_TESTS_OP_OP_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "op/op.h"

static hs_device *dev;
static hstu_error err;

static int open_device(void **state)
{
    (void)state;
    return hs_device_open(&dev, &(hs_device_options){.name = "cpu", .threads = 2}, NULL) == HSTU_OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    hs_device_close(dev);
    return 0;
}

#endif
