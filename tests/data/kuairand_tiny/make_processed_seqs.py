#!/usr/bin/env python3
"""What pandas makes of KuaiRand logs and user features: NVIDIA's processed_seqs.csv, written from its description.

usage: make_processed_seqs.py OUT.csv USER_FEATURES.csv LOG.csv [LOG.csv ...]
"""
import sys

import numpy as np
import pandas as pd

ACTIONS = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"]
LISTS = ["video_id", "time_ms", "action_weights", "play_time_ms", "duration_ms"]
RANGES = ["user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range",
          "register_days_range"]


def one_log(path):
    """A row for each user, ascending; lists in file order."""
    log = pd.read_csv(path)
    log["action_weights"] = sum((log[name] != 0) * (1 << bit) for bit, name in enumerate(ACTIONS))
    return log.groupby("user_id")[LISTS].agg(list).reset_index()


def main(out, features_path, *log_paths):
    users = one_log(log_paths[0])
    for path in log_paths[1:]:
        both = users.merge(one_log(path), on="user_id", suffixes=("", "_later"))
        for name in LISTS:
            both[name] = both[name] + both[name + "_later"]
        users = both[["user_id"] + LISTS]
    rows = []
    for row in users.itertuples(index=False):
        order = np.argsort(np.array(row.time_ms), kind="stable")
        rows.append([row.user_id] + [[getattr(row, name)[i] for i in order] for name in LISTS])
    users = pd.DataFrame(rows, columns=["user_id"] + LISTS)
    features = pd.read_csv(features_path)
    for name in RANGES:
        code = {value: i + 1 for i, value in enumerate(features[name].unique())}
        features[name] = features[name].map(code)
    users.merge(features, on="user_id").to_csv(out, index=False)


main(*sys.argv[1:])
