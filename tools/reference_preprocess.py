#!/usr/bin/env python3
"""The references' preprocessing in pandas, step by step, to compare the bytes of `hstu preprocess` with. A test tool.

KuaiRand: the original's sessions (processed_inference_sequences.csv and metadata.json) and the training file of NVIDIA's
recsys-examples (processed_seqs.csv). MovieLens: NVIDIA's processed_seqs.csv and Meta's sasrec_format.csv, in the order of the
project's own rule where the reference's depends on the machine: equal times stay in the order of the file, users ascend.

usage: reference_preprocess.py --dataset_name NAME --data_root DIR --out DIR [options]
           [--sequences FILE]: compares the tensors of a sequences.safetensors with the rows
       reference_preprocess.py --write_movielens DIR        small ratings in both formats, the same each time
"""
import argparse
import glob
import json
import os
import random

import numpy as np
import pandas as pd

ACTIONS = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"]
RANGES = ["user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range",
          "register_days_range"]
PEOPLE = ["sex", "age_group", "occupation", "zip_code"]
PARTS = {"27k": ["_part1", "_part2"]}


# ---- The project's own file ---------------------------------------------------------------------------------------

def read_tensors(path):
    kinds = {"I64": np.int64, "I32": np.int32, "U8": np.uint8}
    with open(path, "rb") as file:
        data = file.read()
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[begin + first:begin + end], dtype=kinds[entry["dtype"]])
    return tensors


def compare_sequences(path, rows):
    """rows: every event in the order of the files, with user, item, time_ms, action and flags, and play_time_ms and duration_ms."""
    rows = rows.sort_values(["user_id", "time_ms"], kind="stable")
    users, counts = np.unique(rows["user_id"].to_numpy(), return_counts=True)
    expected = {"user_id": users, "offset": np.concatenate([[0], np.cumsum(counts)])}
    for column in ("item", "time_ms", "action", "flags", "play_time_ms", "duration_ms"):
        expected[column] = rows[column].to_numpy()
    tensors = read_tensors(path)
    for name, values in expected.items():
        if not np.array_equal(tensors[name], values):
            raise SystemExit(f"{path}: the tensor {name} is not what the rows say")


# ---- KuaiRand ------------------------------------------------------------------------------------------------------

def kuairand_logs(folder, suffix):
    """The published logs that are there, oldest first, then others by name."""
    parts = PARTS.get(suffix, [""])
    published = [f"{folder}/log_standard_{days}_{suffix}{part}.csv"
                 for days in ("4_08_to_4_21", "4_22_to_5_08") for part in parts]
    found = sorted(glob.glob(f"{folder}/log_standard_*_{suffix}*.csv"))
    return [p for p in published if p in found] + [p for p in found if p not in published]


def with_weights(log):
    weights = np.zeros(len(log), dtype=np.int64)
    for bit, column in enumerate(ACTIONS):
        weights += (1 << bit) * (log[column] != 0).to_numpy().astype(np.int64)
    return log.assign(action_weights=weights)


def write_sessions(logs, args):
    """The original: rows of all logs by (user, time), cut where the gap to the previous event is at least the interval."""
    rows = pd.concat(logs).sort_values(["user_id", "time_ms"], kind="stable")
    sessions, largest = [], -1
    full = False
    for user, events in rows.groupby("user_id", sort=True):
        times = events["time_ms"].to_numpy()
        begins = np.flatnonzero(np.diff(times) >= args.time_interval_s * 1000) + 1
        items = np.split(events["video_id"].to_numpy(), begins)
        actions = np.split(events["action_weights"].to_numpy(), begins)
        for item, action in zip(items, actions):
            largest = max(largest, int(item.max()))
            if len(item) <= 1:
                continue
            full = len(sessions) == args.max_sequences
            if full:
                break
            item, action = item[-(args.max_sequence_length + 1):], action[-(args.max_sequence_length + 1):]
            sessions.append((user, json.dumps(item.tolist()), json.dumps(action.tolist()), len(item)))
        if full:
            break
    table = pd.DataFrame(sessions, columns=["user_id", "sequence", "actions", "length"])
    table.to_csv(f"{args.out}/processed_inference_sequences.csv", index=False)
    with open(f"{args.out}/metadata.json", "w", encoding="utf-8") as file:
        json.dump({"dataset_name": args.dataset_name, "num_sequences": len(table),
                   "max_sequence_length": args.max_sequence_length, "time_interval_s": args.time_interval_s,
                   "vocab_size": largest + 1, "num_users": int(table["user_id"].nunique())}, file, indent=2)


def write_ranking(logs, features, args):
    """NVIDIA: lists per user and file, joined over the files that all hold the user, sorted by time within the user."""
    lists = ["video_id", "time_ms", "action_weights", "play_time_ms", "duration_ms"]
    joined = None
    for log in logs:
        grouped = log.groupby("user_id", sort=True)[lists].agg(list).reset_index()
        if joined is None:
            joined = grouped
            continue
        both = joined.merge(grouped, on="user_id", how="inner", suffixes=("", "_next"))
        for column in lists:
            both[column] = both[column] + both[column + "_next"]
        joined = both[["user_id"] + lists].copy()
    orders = [np.argsort(np.array(times), kind="stable") for times in joined["time_ms"]]
    for column in lists:
        joined[column] = [np.array(cell)[order].tolist() for cell, order in zip(joined[column], orders)]
    for column in RANGES:
        codes = {value: place + 1 for place, value in enumerate(features[column].unique())}
        features[column] = features[column].map(codes)
    joined.merge(features, on="user_id", how="inner").to_csv(f"{args.out}/processed_seqs.csv", index=False)


def kuairand(args):
    suffix = args.dataset_name.split("-")[1].lower()
    folder = f"{args.data_root}/{args.dataset_name}/data"
    paths = kuairand_logs(folder, suffix)
    if not paths:
        raise SystemExit(f"no logs of {args.dataset_name} in {folder}")
    logs = [with_weights(pd.read_csv(path)) for path in paths]
    if args.sequences:
        rows = pd.concat(logs)
        flags = rows.duplicated().astype(int) + 2 * np.repeat(np.arange(len(logs)), [len(log) for log in logs])
        compare_sequences(args.sequences, rows.rename(columns={"video_id": "item", "action_weights": "action"})
                          .assign(flags=flags))
    write_sessions(logs, args)
    features = f"{folder}/user_features_{suffix}.csv"
    if os.path.exists(features):
        write_ranking(logs, pd.read_csv(features), args)


# ---- MovieLens -----------------------------------------------------------------------------------------------------

def movielens(args):
    folder = f"{args.data_root}/{args.dataset_name}"
    names = ["user_id", "movie_id", "rating", "unix_timestamp"]
    users = None
    if args.dataset_name == "ml-1m":
        ratings = pd.read_csv(f"{folder}/ratings.dat", sep="::", names=names, engine="python")
        users = pd.read_csv(f"{folder}/users.dat", sep="::", names=["user_id"] + PEOPLE, engine="python",
                            dtype={"zip_code": str})
        classes = ratings["rating"] - 1
    else:
        ratings = pd.read_csv(f"{folder}/ratings.csv")
        ratings.columns = names
        classes = (ratings["rating"] * 2).astype(np.int64) - 1
    if args.sequences:
        compare_sequences(args.sequences, ratings.rename(columns={"movie_id": "item"}).assign(
            time_ms=ratings["unix_timestamp"] * 1000, action=classes, flags=ratings.duplicated().astype(int),
            play_time_ms=0, duration_ms=0))
    write_nvidia_movielens(ratings.assign(rating=classes), users, args)
    write_meta_movielens(ratings, users, args)


def write_nvidia_movielens(ratings, users, args):
    grouped = ratings.sort_values("unix_timestamp", kind="stable").groupby("user_id", sort=True).agg(list).reset_index()
    if users is not None:
        coded = users.copy()
        for column in PEOPLE:
            codes = {value: place + 1 for place, value in enumerate(coded[column].unique())}
            coded[column] = coded[column].map(codes)
        grouped = grouped.merge(coded, on="user_id", how="inner")
    grouped.to_csv(f"{args.out}/processed_seqs.csv", index=False)


def write_meta_movielens(ratings, users, args):
    joined = ratings.sort_values("unix_timestamp", kind="stable").groupby("user_id", sort=True).agg(list).reset_index()
    table = pd.DataFrame({"user_id": joined["user_id"]})
    for column, source in (("sequence_item_ids", "movie_id"), ("sequence_ratings", "rating"),
                           ("sequence_timestamps", "unix_timestamp")):
        table[column] = [",".join(str(x) for x in cell) for cell in joined[source]]
    if users is not None:
        coded = users.copy()
        for column in PEOPLE:
            coded[column] = pd.Categorical(coded[column]).codes
        table = table.merge(coded, on="user_id", how="left")
    table.to_csv(f"{args.out}/sasrec_format.csv", index=True, index_label="index")


def write_movielens(root):
    """Ratings with ties in time, users of one rating, movies that nobody rates."""
    draw = random.Random(8)
    os.makedirs(f"{root}/ml-1m", exist_ok=True)
    os.makedirs(f"{root}/ml-20m", exist_ok=True)
    n_users, n_movies = 300, 500
    rows = []
    for user in range(1, n_users + 1):
        begin = 956703932 + draw.randrange(10 ** 7)
        seen = draw.sample(range(1, n_movies), 1 if user % 50 == 0 else draw.randrange(2, 120))
        rows += [(user, movie, draw.randrange(1, 11), begin + draw.randrange(40) * draw.randrange(2000)) for movie in seen]
    with open(f"{root}/ml-1m/ratings.dat", "w", encoding="latin-1") as file:
        file.writelines(f"{u}::{m}::{(r + 1) // 2}::{t}\n" for u, m, r, t in rows)
    with open(f"{root}/ml-1m/users.dat", "w", encoding="latin-1") as file:
        for user in range(1, n_users + 1):
            zip_code = f"{draw.randrange(90):05d}" + ("-1234" if draw.random() < 0.05 else "")
            age = draw.choice([1, 18, 25, 35, 45, 50, 56])
            file.write(f"{user}::{draw.choice('FM')}::{age}::{draw.randrange(21)}::{zip_code}\n")
    with open(f"{root}/ml-1m/movies.dat", "w", encoding="latin-1") as file:
        file.writelines(f"{m}::Film No {m} (19{m % 90 + 10})::Drama|Com\xe9die\n" for m in range(1, n_movies + 1))
    with open(f"{root}/ml-20m/ratings.csv", "w", encoding="utf-8") as file:
        file.write("userId,movieId,rating,timestamp\n")
        file.writelines(f"{u},{m},{r / 2},{t}\n" for u, m, r, t in rows)
    with open(f"{root}/ml-20m/movies.csv", "w", encoding="utf-8") as file:
        file.write("movieId,title,genres\n")
        file.writelines(f'{m},"Film, No {m} (19{m % 90 + 10})",Drama\n' for m in range(1, n_movies + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", choices=["KuaiRand-Pure", "KuaiRand-1K", "KuaiRand-27K", "ml-1m", "ml-20m"])
    parser.add_argument("--data_root")
    parser.add_argument("--out")
    parser.add_argument("--sequences", metavar="FILE")
    parser.add_argument("--time_interval_s", type=int, default=300)
    parser.add_argument("--max_sequences", type=int, default=1024)
    parser.add_argument("--max_sequence_length", type=int, default=256)
    parser.add_argument("--write_movielens", metavar="DIR")
    args = parser.parse_args()
    if args.write_movielens:
        write_movielens(args.write_movielens)
        return
    if not (args.dataset_name and args.data_root and args.out):
        parser.error("--dataset_name, --data_root and --out are needed")
    os.makedirs(args.out, exist_ok=True)
    if args.dataset_name.startswith("ml-"):
        movielens(args)
    else:
        kuairand(args)


if __name__ == "__main__":
    main()
