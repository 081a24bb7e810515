"""The graphs of `hstu convert --to onnx`: onnx checks the files, and ONNX Runtime computes from them, with inputs that are made here by
what docs/npu.md says of them, what `hstu run --requests` answers on the processor.

usage: check_exported.py PROGRAM GOLDEN_FOLDER WORK_FOLDER
"""
import json
import math
import os
import struct
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime

FAR_AWAY = 16777216
TOP = 20
MODELS = {  # checkpoint, configuration
    "HSTU": ("retrieval/base_h1_n71/checkpoint_ep100", "retrieval/base_h1_n71/config.json"),
    "SASRec": ("retrieval/sasrec_h2_n71/checkpoint_ep100", "retrieval/sasrec_h2_n71/config.json"),
    "decoder": ("decoder/model_fp32/model_raw.pt", None),
    "ranking": ("ranking/c6_fused_fp32/checkpoint", "ranking/c6_fused_fp32/config.json"),
}
PARTS = {"HSTU": ("limit_history", "time_bucket_0", "place_newest"), "SASRec": ("limit_history", "newest"),
         "decoder": ("limit_history", "newest"), "ranking": ("limit_tokens", "limit_candidates")}


def call(program, *words):
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"hstu {' '.join(words)}: {done.stderr}"
    return done.stdout


def read_safetensors(path):
    """The tensors and the model's whole configuration."""
    types = {"F32": np.float32, "I64": np.int64}
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    config = json.loads(header.pop("__metadata__")["hstu_config"])
    return config, {name: np.frombuffer(data[slice(*t["data_offsets"])], types[t["dtype"]]).reshape(t["shape"])
                    for name, t in header.items()}


class Retrieval:
    """Research HSTU and SASRec: rows, times and scores of users."""

    def __init__(self, config, tensors):
        self.config, self.tensors = config, tensors
        self.items = tensors["_embedding_module._item_emb.weight"]

    def positions(self):
        return self.tensors["_input_features_preproc._pos_emb.weight"]

    def rows(self, user):
        table = self.items[user["items"]] * np.float32(math.sqrt(self.items.shape[1]))
        return table + self.positions()[:len(table)]

    def candidates(self, user):
        return np.zeros((0, self.items.shape[1]), np.float32)

    def buckets(self, user):
        """Of each row the newest token of which is i, beside each token: by the time of event i + 1, or of the request."""
        times = np.array(user["times"] + [user["request_time"]], np.float32)
        apart = np.maximum(np.abs(times[1:, None] - times[None, :-1]), np.float32(1))
        return np.minimum(np.trunc(np.log(apart) / np.float32(0.301)), self.config["num_time_buckets"]).astype(np.uint8)

    def scores(self, result):
        return result @ (self.items / np.linalg.norm(self.items, axis=1, keepdims=True).clip(1e-6)).T


class Decoder(Retrieval):
    def __init__(self, config, tensors):
        super().__init__(config, {"_embedding_module._item_emb.weight": tensors["embedding.weight"], **tensors})

    def rows(self, user):
        table = self.items[user["items"]]
        places = np.arange(len(table))[:, None] * np.exp(np.arange(0, table.shape[1], 2) * (-math.log(10000) / table.shape[1]))
        return table + np.stack([np.sin(places), np.cos(places)], 2).reshape(table.shape).astype(np.float32)

    def scores(self, result):
        return result @ self.tensors["head.weight"].T + self.tensors["head.bias"]


class Ranking:
    def __init__(self, config, tensors):
        self.config, self.tensors = config, tensors

    def look_up(self, feature, ids):
        name = f"_embedding_collection.{feature}"
        if f"{name}.weight" in self.tensors:
            return self.tensors[f"{name}.weight"][ids]
        place = {key: i for i, key in enumerate(self.tensors[f"{name}.keys"].tolist())}
        return self.tensors[f"{name}.values"][[place[i] for i in ids]]

    def place(self, rows, first, step):
        table = self.tensors["_hstu_block._preprocessor._positional_encoder._position_embeddings_weight"]
        places = np.minimum(first + step * np.arange(len(rows)), len(table) - 1)
        return rows * np.float32(math.sqrt(rows.shape[1])) + table[places]

    def rows(self, user):
        context = [self.look_up(name, [user["context"].get(name, user["user"])]) for name in self.config["contextual"]]
        events = np.stack([self.look_up(self.config["item_feature"], user["items"]),
                           self.look_up(self.config["action_feature"], user["actions"])], 1)
        return self.place(np.concatenate(context + [events.reshape(-1, events.shape[2])]), 0, 1)

    def candidates(self, user):
        behind = len(user["context"]) + 1 + 2 * len(user["items"])
        return self.place(self.look_up(self.config["item_feature"], user["candidates"]), behind, 0)


def make_users(kind, model):
    """Two users of different lengths, whose events lie seconds to days apart."""
    random = np.random.default_rng(7)
    users = []
    for u, length in enumerate((19, 6) if kind == "ranking" else (45, 18)):
        user = {"user": u + 1}
        if kind == "ranking":
            videos = model.tensors["_embedding_collection.video_id.keys"]
            user["user"] = int(model.tensors["_embedding_collection.user_id.keys"][u])
            user["items"] = random.choice(videos, length).tolist()
            user["actions"] = random.integers(0, 200, length).tolist()
            user["context"] = {name: int(random.integers(1, 8)) for name in model.config["contextual"][1:]}
            user["candidates"] = random.choice(videos, 7 - 3 * u, replace=False).tolist()
        else:
            user["items"] = random.integers(1, 60, length).tolist()
            user["times"] = np.cumsum(np.exp(random.uniform(0, 12, length)).astype(np.int64)).tolist()
            user["request_time"] = user["times"][-1] + 77
        users.append(user)
    return users


def pieces(model, layout, users, first):
    """The inputs of a graph that computes each user's tokens from first[u] on, as many as it has room for, and what it computes."""
    n_users, rows, n_cands, past = (layout[name] for name in ("users", "history", "candidates", "past"))
    tokens = [model.rows(user) for user in users]
    last = [min(len(t), f + rows) for t, f in zip(tokens, first)]
    given = {
        "embedding": np.zeros((n_users, rows + n_cands, tokens[0].shape[1]), np.float32),
        "newest": np.arange(n_users, dtype=np.int32) * rows,
        "past_place": np.full((n_users, 1, 1, past), FAR_AWAY, np.int32),
        "own_place": np.full((n_users, 1, 1, rows), FAR_AWAY, np.int32),
        "place_history": np.zeros((n_users, rows, 1), np.int32), "place_newest": np.zeros((n_users, 1, 1), np.int32),
        "time_bucket_0": np.zeros((n_users, rows, past + rows), np.uint8),
        "limit_history": np.full((n_users, 1, rows, 1), -1, np.int32),
        "limit_newest": np.full((n_users, 1, 1, 1), -1, np.int32),
        "limit_candidates": np.full((n_users, 1, n_cands, 1), -1, np.int32),
    }
    for u, user in enumerate(users):
        own = np.arange(first[u], last[u])
        n, candidates = len(own), model.candidates(user)
        given["embedding"][u, :n] = tokens[u][own]
        given["embedding"][u, rows:rows + len(candidates)] = candidates
        given["newest"][u] += n - 1
        given["past_place"][u, 0, 0, :first[u]] = np.arange(first[u])
        given["own_place"][u, 0, 0, :n] = given["limit_history"][u, 0, :n, 0] = given["place_history"][u, :n, 0] = own
        given["limit_newest"][u] = given["place_newest"][u] = last[u] - 1
        given["limit_candidates"][u, 0, :len(candidates)] = last[u] - 1
        if "num_time_buckets" in model.config:
            buckets = model.buckets(user)[own]
            given["time_bucket_0"][u, :n, :first[u]] = buckets[:, :first[u]]
            given["time_bucket_0"][u, :n, past:past + n] = buckets[:, own]
    given["limit_tokens"] = np.concatenate([given["limit_history"], given["limit_candidates"]], 2)
    given["time_bucket_1"] = np.stack([given["time_bucket_0"][u, [max(last[u] - first[u] - 1, 0)]] for u in range(n_users)])
    given["embedding"] = given["embedding"].reshape(n_users * (rows + n_cands), -1)
    return given, last


def remember(cached, outputs, first, last):
    """Keys and values of a graph's own tokens become those of cached ones."""
    for name, value in outputs.items():
        kind = name.split("_")[0]
        past = cached.get(f"past_{name}")
        if past is None:
            continue
        own = value.reshape(len(past), -1, past.shape[1], value.shape[1] // past.shape[1])  # [users, tokens, heads, width]
        room = past.shape[3 if kind == "key" else 2]
        for u in range(len(past)):
            if last[u] > room:
                continue  # the user's last tokens, which nobody comes behind
            new = own[u, :last[u] - first[u]].transpose((1, 2, 0) if kind == "key" else (1, 0, 2))
            if kind == "key":
                past[u, :, :, first[u]:last[u]] = new
            else:
                past[u, :, first[u]:last[u]] = new


def compute(path, model, users):
    """The result of each user, in as many runs of the graph as it takes."""
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    about = {entry.key: entry.value for entry in file.metadata_props}
    layout = {name: int(n) for name, n in (part.split() for part in about["hstu_layout"].split(", "))}
    assert layout["users"] == len(users), about
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {port.name: port for port in session.get_inputs()}
    outputs = [port.name for port in session.get_outputs()]
    cached = {name: np.zeros(port.shape, np.float32) for name, port in inputs.items() if name.startswith(("past_key", "past_value"))}
    first, n_runs, found = [0] * len(users), 0, [None] * len(users)
    while n_runs == 0 or any(f < len(model.rows(user)) for f, user in zip(first, users)):
        # Users who have no tokens left compute their last ones again.
        at = [f if f < len(model.rows(user)) else b for f, user, b in zip(first, users, before)] if n_runs else first
        given, last = pieces(model, layout, users, at)
        given = {name: value for name, value in {**given, **cached}.items() if name in inputs}
        assert sorted(given) == sorted(inputs), f"{path}: inputs {sorted(inputs)}, known are {sorted(given)}"
        result = dict(zip(outputs, session.run(outputs, given)))
        rows = result["result"].reshape(len(users), -1, result["result"].shape[1])
        for u, user in enumerate(users):
            if last[u] == len(model.rows(user)):
                found[u] = rows[u, :max(len(model.candidates(user)), 1)]
        remember(cached, result, at, last)
        before, first, n_runs = at, last, n_runs + 1
    assert layout["past"] == 0 or cached, f"{path}: no input takes cached keys"
    return list(inputs), n_runs, found


def expected(program, checkpoint, users, folder, kind):
    path = os.path.join(folder, "requests.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(user) + "\n" for user in users)
    words = [] if kind == "ranking" else ["--item_id_offset", "0", "--top_k", str(TOP), "--filter_seen", "off"]
    return [json.loads(line) for line in call(program, "run", "--checkpoint", checkpoint, "--requests", path, *words).splitlines()]


def error_of(kind, model, answer, found):
    """The largest difference, relative to the largest number."""
    if kind == "ranking":
        wanted, got = np.array(answer["logits"]), found
    else:
        scores = model.scores(found[0])
        wanted, got = np.array(answer["scores"]), scores[answer["items"]]
        assert len(set(answer["items"])) == TOP
        scores = np.delete(scores, [0] if kind != "decoder" else [])  # item 0 is padding
        assert np.abs(np.sort(scores)[::-1][:TOP] - wanted).max() <= np.abs(got - wanted).max() * 2 + 1e-6
    assert wanted.shape == got.shape, f"{kind}: shape {got.shape}, not {wanted.shape}"
    return np.abs(wanted - got).max() / np.abs(wanted).max()


def check_model(program, golden, folder, kind):
    checkpoint, config = MODELS[kind]
    config = config and os.path.join(golden, config)
    if kind == "ranking":  # contextual tokens that see the whole history could not be cached
        with open(config, encoding="utf-8") as file:
            settings = json.load(file)
        config = os.path.join(folder, "ranking.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump({**settings, "contextual_mask": False}, file)
    words = ["--config", config] if config else []
    whole, path = os.path.join(folder, "model.safetensors"), os.path.join(folder, "graph.onnx")
    call(program, "convert", os.path.join(golden, checkpoint), whole, *words)
    model = {"decoder": Decoder, "ranking": Ranking}.get(kind, Retrieval)(*read_safetensors(whole))
    users = make_users(kind, model)
    answers = expected(program, whole, users, folder, kind)
    for dtype, bound in (("fp32", 1e-5), ("fp16", 5e-3)):
        for shape, runs in (("--history 48", 1), ("--history 28 --cached 32", 2), ("--history 9 --cached 32", 3)):
            call(program, "convert", whole, path, "--to", "onnx", "--dtype", dtype, "--users", "2", "--candidates", "8",
                 *shape.split())
            inputs, n_runs, found = compute(path, model, users)
            assert n_runs == runs and set(PARTS[kind]) <= set(inputs), f"{kind}: {n_runs} runs, {inputs}"
            error = max(error_of(kind, model, *pair) for pair in zip(answers, found))
            assert error <= bound, f"{kind} in {dtype}, {shape}: off by {error}, {bound} is allowed"
            assert dtype == "fp32" or error > 1e-6, f"{kind}: fp16 is as exact as fp32"
            print(f"check_exported: {kind} {dtype} {shape}: {n_runs} runs, off by {error:.2g}")


def main(program, golden, folder):
    for kind in MODELS:
        check_model(program, golden, folder, kind)
    print(f"check_exported: onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
