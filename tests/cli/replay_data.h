/* A small log of six users, for replays: 30 events each, of which the first three, and every fifth one with the one
 * before it, lie within a minute. */
#ifndef TESTS_CLI_REPLAY_DATA_H
#define TESTS_CLI_REPLAY_DATA_H

#include "cli/program_run.h"

#include "dataset/scratch.h"

enum { LOG_USERS = 6, LOG_EVENTS = 30, LOG_REQUESTS = 21 * LOG_USERS, LOG_TARGETS = 27 * LOG_USERS };
/* Events of all requests' histories, and of those that came before a user's last request. */
enum { LOG_HISTORY = 333 * LOG_USERS, LOG_KNOWN = 305 * LOG_USERS };

static inline long log_time_s(int u, int i)
{
    return i < 3 ? 10 * i + u : i % 5 == 4 ? 1000 * (i - 1) + 10 + u : 1000 * i + u;
}

static inline int log_item(int u, int i)
{
    return 1 + (7 * i + 11 * u + i * i) % 40;
}

static inline void put_list(FILE *out, const char *open, int u, int what, const char *close)
{
    (void)fputs(open, out);
    for (int i = 0; i < LOG_EVENTS; i++) {
        const long x = what == 0   ? log_item(u, i)
                       : what == 1 ? log_time_s(u, i)
                       : what == 2 ? 1000 * log_time_s(u, i)
                                   : (i * 5 + u) % 200;
        (void)fprintf(out, i ? ", %ld" : "%ld", x);
    }
    (void)fputs(close, out);
}

/* Meta's layout, in seconds. */
static inline void write_sasrec(scratch *files, const char *name)
{
    FILE *out = fopen(scratch_path(files, name), "wb");
    assert_non_null(out);
    (void)fputs("user_id,sequence_item_ids,sequence_ratings,sequence_timestamps\n", out);
    for (int u = 0; u < LOG_USERS; u++) {
        (void)fprintf(out, "%d", 100 + u);
        put_list(out, ",\"", u, 0, "\"");
        put_list(out, ",\"", u, 3, "\"");
        put_list(out, ",\"", u, 1, "\"\n");
    }
    assert_int_equal(fclose(out), 0);
}

/* NVIDIA's layout, in milliseconds. */
static inline void write_processed(scratch *files, const char *name)
{
    FILE *out = fopen(scratch_path(files, name), "wb");
    assert_non_null(out);
    (void)fputs("user_id,video_id,time_ms,action_weights,user_active_degree,follow_user_num_range,fans_user_num_range,"
                "friend_user_num_range,register_days_range\n",
        out);
    for (int u = 0; u < LOG_USERS; u++) {
        (void)fprintf(out, "%d", 100 + u);
        put_list(out, ",\"[", u, 0, "]\"");
        put_list(out, ",\"[", u, 2, "]\"");
        put_list(out, ",\"[", u, 3, "]\"");
        (void)fprintf(out, ",%d,2,3,4,5\n", 1 + u % 3);
    }
    assert_int_equal(fclose(out), 0);
}

/* The configuration of golden case ranking/c6_fused_fp32, which leaves the mask open. */
static inline void write_ranking_config(scratch *files, const char *name, bool contextual_mask)
{
    size_t n = 0;
    char *text = read_whole(TEST_DATA "/golden/ranking/c6_fused_fp32/config.json", &n);
    FILE *out = fopen(scratch_path(files, name), "wb");
    assert_non_null(out);
    assert_int_equal(text[0], '{');
    (void)fprintf(out, "{\"contextual_mask\": %s,%s", contextual_mask ? "true" : "false", text + 1);
    assert_int_equal(fclose(out), 0);
    free(text);
}

#endif
