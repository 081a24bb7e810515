/* Small KuaiRand folders for tests. */
#ifndef KUAIRAND_FILES_H
#define KUAIRAND_FILES_H

#include "dataset/scratch.h"

#include "hstu/dataset.h"

#define LOG_HEADER                                                                                                     \
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"        \
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
/* A row of user, video, time in seconds and tab, clicked. */
#define LOG_ROW(user, video, time_s, tab)                                                                              \
#user "," #video ",20220408,1400," #time_s "000,1,0,0,0,0,0,0,1500,9000,0,0,0,0," #tab "\n"
/* Columns of a features file, without a line's end. */
#define FEATURE_HEADER                                                                                                 \
    "user_id,user_active_degree,follow_user_num_range,fans_user_num_range,friend_user_num_range,register_days_range"

/* The golden pair of logs under <scratch>/KuaiRand-1K/data. */
static inline void copy_tiny(scratch *s)
{
    scratch_mkdir(s, "KuaiRand-1K");
    scratch_mkdir(s, "KuaiRand-1K/data");
    scratch_copy(s, "KuaiRand-1K/data/log_standard_4_08_to_4_21_1k.csv",
        TEST_DATA "/kuairand_tiny/csv/log_standard_4_08_to_4_21_1k.csv");
    scratch_copy(s, "KuaiRand-1K/data/log_standard_4_22_to_5_08_1k.csv",
        TEST_DATA "/kuairand_tiny/csv/log_standard_4_22_to_5_08_1k.csv");
}

/* The golden user features beside them. */
static inline void copy_tiny_features(scratch *s)
{
    scratch_copy(s, "KuaiRand-1K/data/user_features_1k.csv", TEST_DATA "/kuairand_tiny/csv/user_features_1k.csv");
}

/* Two logs under <scratch>/KuaiRand-Pure. */
static inline void write_pure(scratch *s, const char *first, const char *second)
{
    scratch_mkdir(s, "KuaiRand-Pure");
    scratch_text(s, "KuaiRand-Pure/log_standard_4_08_to_4_21_pure.csv", first);
    scratch_text(s, "KuaiRand-Pure/log_standard_4_22_to_5_08_pure.csv", second);
}

static inline hstu_preprocess_options options_for(const scratch *s, const char *dataset_name)
{
    hstu_preprocess_options options;
    hstu_preprocess_options_init(&options);
    options.dataset_name = dataset_name;
    options.data_root = s->folder;
    return options;
}

#endif
