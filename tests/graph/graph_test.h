/* What the tests of graphs share: a graph for each test, and what it says after a failure. */
#ifndef TESTS_GRAPH_GRAPH_TEST_H
#define TESTS_GRAPH_GRAPH_TEST_H

#include "graph/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static hs_graph *g;

static inline int make_graph(void **state)
{
    (void)state;
    g = hs_graph_new();
    return !g;
}

static inline int free_graph(void **state)
{
    (void)state;
    hs_graph_free(g);
    return 0;
}

static inline hs_value input(hs_dtype type, hs_dims dims)
{
    char name[16];
    (void)snprintf(name, sizeof name, "x%d", g->n_inputs);
    const hs_value v = hs_graph_input(g, name, type, dims);
    assert_true(v >= 0);
    return v;
}

static inline void expect_ok(void)
{
    hstu_error err = {.msg = "untouched"};
    if (hs_graph_check(g, &err) != HSTU_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(err.msg, "untouched");
}

/* The graph has failed with this sentence, has nothing new, and the next test goes on with a new one. */
static inline void expect_refused(hs_value v, const char *sentence)
{
    hstu_error err = {0};
    assert_int_equal(v, HS_NO_VALUE);
    assert_int_equal(hs_graph_check(g, &err), HSTU_EINVAL);
    assert_int_equal(err.code, HSTU_EINVAL);
    assert_string_equal(err.msg, sentence);
    assert_int_equal(g->n_nodes, 0);
    hs_graph_free(g);
    g = hs_graph_new();
    assert_non_null(g);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_graph, free_graph)

#endif
