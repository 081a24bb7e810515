#!/usr/bin/env python3
"""The peer of `hstu run --protocol leave-one-out`: the same evaluation of a research-HSTU checkpoint in PyTorch on CPU.

Needs torch and numpy. Written from the equations, for speed within eager PyTorch: linear layers run on the packed rows of
all users, attention is padded to the longest history of the batch (not to N as the reference does; --pad_to_n does that),
time buckets come from integer thresholds, scores and ranks from one matrix product per batch.

    bench/torch_retrieval.py --checkpoint checkpoint.pt --config config.json --dataset sequences.safetensors \\
        --threads 16
"""
import argparse
import json
import math
import time

import numpy as np
import torch
import torch.nn.functional as F


def thresholds():
    """Smallest distance of every time bucket, from the float32 formula that defines it."""
    found = []
    for bucket in range(1, 104):
        low, high = 1, 1 << 46
        while low < high:
            middle = (low + high) // 2
            value = int((torch.tensor(middle).float().clamp(min=1).log() / 0.301).item())
            low, high = (low, middle) if value >= bucket else (middle + 1, high)
        found.append(low)
    return torch.tensor(found)


class Model:
    def __init__(self, checkpoint, config):
        # Before version 2 the safe loader did not know the floats of an optimizer state.
        state = torch.load(checkpoint, map_location="cpu", weights_only=torch.__version__ >= "2")["model_state_dict"]
        state = {key.removeprefix("module."): value for key, value in state.items()}
        self.dim, self.heads = config["item_embedding_dim"], config["num_heads"]
        self.dqk, self.dv, self.blocks = config["dqk"], config["dv"], config["num_blocks"]
        self.n = config["attention_n"]
        self.item = state["_embedding_module._item_emb.weight"]
        self.position = state["_input_features_preproc._pos_emb.weight"]
        self.layers = []
        for i in range(self.blocks):
            prefix = f"_hstu._attention_layers.{i}."
            names = "_uvqk", "_o.weight", "_o.bias", "_rel_attn_bias._ts_w", "_rel_attn_bias._pos_w"
            self.layers.append([state[prefix + name] for name in names])
        self.candidates = F.normalize(self.item[1:], dim=1, eps=1e-6).t().contiguous()
        self.thresholds = thresholds()

    def encode(self, ids, times, request, lengths, width):
        """ids, times [B, width] right-padded with 0; request [B]; returns normalised embeddings [B, D]."""
        batch = ids.shape[0]
        valid = torch.arange(width)[None] < lengths[:, None]
        x = (self.item[ids] * math.sqrt(self.dim) + self.position[:width])[valid]
        extended = torch.cat([times, torch.zeros(batch, 1, dtype=times.dtype)], 1)
        extended[torch.arange(batch), lengths] = request
        distance = (extended[:, 1:, None] - extended[:, None, :-1]).abs()
        bucket = torch.bucketize(distance, self.thresholds, right=True).clamp(max=128)
        index = self.n - 1 + torch.arange(width)[None] - torch.arange(width)[:, None]
        causal = torch.ones(width, width).tril() / self.n
        h, dv, dqk = self.heads, self.dv, self.dqk
        for uvqk, o_weight, o_bias, ts_w, pos_w in self.layers:
            z = F.silu(F.layer_norm(x, (self.dim,), eps=1e-6) @ uvqk)
            u, v, q, k = z.split([h * dv, h * dv, h * dqk, h * dqk], 1)
            padded = torch.zeros(batch, width, h * (dv + 2 * dqk))
            padded[valid] = torch.cat([v, q, k], 1)
            v, q, k = (part.view(batch, width, h, -1).transpose(1, 2)
                       for part in padded.split([h * dv, h * dqk, h * dqk], 2))
            bias = pos_w[index][None] + ts_w[bucket]
            scores = F.silu(q @ k.transpose(2, 3) + bias[:, None]) * causal
            attention = (scores @ v).transpose(1, 2).reshape(batch, width, h * dv)[valid]
            x = torch.addmm(o_bias, u * F.layer_norm(attention, (h * dv,), eps=1e-6), o_weight.t()) + x
        return F.normalize(x[lengths.cumsum(0) - 1], dim=1, eps=1e-6)

    def ranks(self, embedding, ids, lengths, targets, k):
        scores = embedding @ self.candidates
        width = ids.shape[1]
        valid = torch.arange(width)[None] < lengths[:, None]
        rows = torch.arange(len(ids))[:, None].expand(-1, width)[valid]
        own = scores[torch.arange(len(ids)), targets - 1]
        scores[rows, ids[valid] - 1] = -math.inf
        filtered = scores[torch.arange(len(ids)), targets - 1] == -math.inf
        scores.topk(k, 1)
        rank = 1 + (scores > own[:, None]).sum(1)
        return torch.where(filtered | (rank > 2500), 2501, rank)


def read_tensors(path):
    """The tensors of a safetensors file: a length, a JSON header, bytes."""
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    kinds = {"I64": np.int64, "I32": np.int32, "U8": np.uint8}
    header = {name: entry for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
    return {name: np.frombuffer(data[start:][slice(*entry["data_offsets"])], kinds[entry["dtype"]])
            for name, entry in header.items()}


def read(path, config):
    """Leave-one-out samples by the model's rules: history, its times, target, its time."""
    events = read_tensors(path)
    item = events["item"] + config["item_id_offset"]
    when = events["time_ms"] // config["time_unit_ms"]
    kept = (events["flags"] & 1) == 0 if config["drop_duplicates"] else np.ones(len(item), bool)
    samples = []
    for begin, end in zip(events["offset"], events["offset"][1:]):
        mine = kept[begin:end]
        ids, times = item[begin:end][mine], when[begin:end][mine]
        if len(ids) >= config["min_events"]:
            last = config["max_sequence_length"] + 1
            samples.append((ids[-last:-1], times[-last:-1], ids[-1], times[-1]))
    return samples


def main():
    parser = argparse.ArgumentParser()
    for name in ("checkpoint", "config", "dataset"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--top_k", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--pad_to_n", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with open(options.config) as file:
        config = json.load(file)
    model = Model(options.checkpoint, config)
    samples = read(options.dataset, config)

    batches = []
    for first in range(0, len(samples), options.batch_size):
        part = samples[first:first + options.batch_size]
        lengths = torch.tensor([len(sample[0]) for sample in part])
        width = model.n - 1 if options.pad_to_n else int(lengths.max())
        ids, times = torch.zeros(len(part), width, dtype=torch.int64), torch.zeros(len(part), width, dtype=torch.int64)
        for i, sample in enumerate(part):
            ids[i, :len(sample[0])] = torch.from_numpy(sample[0])
            times[i, :len(sample[1])] = torch.from_numpy(sample[1])
        targets, request = (torch.tensor(np.array([sample[j] for sample in part])) for j in (2, 3))
        batches.append((ids, times, request, lengths, width, targets))

    seconds = []
    with torch.inference_mode():
        for _ in range(options.repetitions + 1):  # the first pass is the warm-up
            ranks, start = [], time.perf_counter()
            for ids, times, request, lengths, width, targets in batches:
                embedding = model.encode(ids, times, request, lengths, width)
                ranks.append(model.ranks(embedding, ids, lengths, targets, options.top_k))
            seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds[1:])
    rank = torch.cat(ranks).double()
    print(json.dumps({
        "peer": f"PyTorch {torch.__version__} eager", "threads": options.threads, "batch_size": options.batch_size,
        "requests": len(samples), "total_time_s": seconds[len(seconds) // 2], "best_time_s": seconds[0],
        "throughput_rps": len(samples) / seconds[len(seconds) // 2],
        "hr@10": (rank <= 10).double().mean().item(),
        "ndcg@10": torch.where(rank <= 10, 1 / torch.log2(rank + 1), 0.0).mean().item(),
        "mrr": (1 / rank).mean().item()}, indent=2))


main()
