#!/usr/bin/env python3
"""hstu and PyTorch on the same shapes, weights, inputs and threads, in turns.

For each shape of `hstu bench` it writes a model with random weights (one safetensors file), asks both for the answers
to the same requests, stops unless they agree, and then measures them in rounds: `hstu bench`, PyTorch eager, and with
--compile torch.compile. The peer computes what hstu computes, from ids to logits or best items, with the cached events'
keys and values at hand; it is written as one would write it, without padding. Needs PyTorch 1.13 or later, and nothing
else. Prints a Markdown table, and with --json FILE writes the figures of every round. Two of its columns tell the state
of the machine: what hstu's kernels could multiply at best, and the yardstick's range around hstu's measurements.
"""
import argparse
import ctypes
import json
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

try:
    import torch
    import torch.nn.functional as functional
except ImportError as error:
    sys.exit(f"bench_vs_torch.py needs PyTorch 1.13 or later for this Python: {error}")

# Ranking: history, cached and candidates in tokens; layers, D, heads, width of a head; contextual features
RANKING = {
    "kr1k_full": (8198, 0, 100, 3, 512, 4, 128, 6),
    "kr1k_cached": (8198, 8196, 100, 3, 512, 4, 128, 6),
    "kr1k_2k": (2054, 0, 100, 3, 512, 4, 128, 6),
    "nv_4096_0": (4096, 0, 256, 8, 1024, 4, 256, 0),
    "nv_4096_3968": (4096, 3968, 256, 8, 1024, 4, 256, 0),
    "pure": (206, 0, 20, 1, 128, 4, 128, 6),
}
# The original's decoder: history, batch; layers, D; items by --items
DECODERS = {"decoder_2x128": (128, 2, 6, 512)}
ITEMS, ACTIONS, USED_ACTIONS, POSITIONS, HEAD, EPS, L2_EPS, TOP_K = 20000, 256, 64, 8192, (512, 8), 1e-5, 1e-6, 10
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Of a logit or score, relative to the largest of the request.
ALLOWED = {"fp32": 1e-4, "bf16": 2e-2}
PEAK_MS = 30  # enough for the state of the machine, and short beside a round


class Ranking:
    """A shape: its configuration, weights, requests and arguments of `hstu bench`."""

    batch = 1

    def __init__(self, name, numbers):
        self.name = name
        self.history, self.cached, self.candidates, self.layers = numbers[:4]
        self.dim, self.heads, self.width, self.context = numbers[4:]
        self.events = (self.history - self.context) // 2
        self.cached_events = (self.cached - self.context) // 2 if self.cached else 0
        self.divisor = self.context + 2 * (self.events + self.candidates)

    def config(self):
        tables = [("item", ITEMS), ("action", ACTIONS)] + [(f"context_{i}", 2) for i in range(self.context)]
        return {
            "family": "ranking", "hidden_size": self.dim, "num_layers": self.layers, "num_attention_heads": self.heads,
            "kv_channels": self.width, "norm_epsilon": EPS, "l2_eps": L2_EPS, "num_position_buckets": POSITIONS,
            "max_history_seqlen": self.events, "max_num_candidates": self.candidates, "scaling_seqlen": self.divisor,
            "contextual_mask": False, "contextual": [f"context_{i}" for i in range(self.context)],
            "item_feature": "item", "action_feature": "action",
            "tables": [{"name": name, "dynamic": False, "rows": rows} for name, rows in tables],
            "prediction_head_arch": list(HEAD), "prediction_head_act_type": "relu", "prediction_head_bias": True}


    def bench_options(self):
        return ["--history", str(self.history), "--candidates", str(self.candidates),
                "--cached", str(self.cached_events / self.events)]

    def requests(self):
        """Lines: what fills the cache, then what is asked."""
        request = Request(self)
        return ([request.line(self.cached_events)] if self.cached else []) + [request.line(self.events)]

    def agree(self, answers, peer):
        """The largest difference of the answers, relative to the largest logit."""
        ours, theirs = torch.tensor(answers[-1]["logits"]), peer().float()
        return float((ours - theirs).abs().max() / theirs.abs().max())

    def peer(self, weights, dtype):
        return RankingPeer(self, weights, dtype).prepare(Request(self))


class Decoder:
    cached = 0

    def __init__(self, name, numbers, items):
        self.name, self.items = name, items
        self.history, self.batch, self.layers, self.dim = numbers

    def config(self):
        return {"family": "decoder", "hidden_size": self.dim, "num_layers": self.layers, "vocab_size": self.items,
                "max_position_embeddings": self.history, "layernorm_eps": EPS, "item_id_offset": 0}

    def ids(self):
        n = self.history
        return [[1 + pick(1, user * n + i, self.items - 1) for i in range(n)] for user in range(self.batch)]

    def bench_options(self):
        return ["--family", "decoder", "--history", str(self.history), "--batch", str(self.batch)]

    def requests(self):
        return [json.dumps({"user": i, "items": ids}) + "\n" for i, ids in enumerate(self.ids())]

    def agree(self, answers, peer):
        """Both best scores of each place, and the scores that the peer gives hstu's items."""
        error, (best, _, logits) = 0.0, peer()
        for user, answer in enumerate(answers):
            ours, all_logits = torch.tensor(answer["scores"]), logits[user].float()
            theirs = torch.stack([best[user].float(), all_logits[torch.tensor(answer["items"])]])
            error = max(error, float((ours - theirs).abs().max() / all_logits.abs().max()))
        return error

    def peer(self, weights, dtype):
        model, ids = DecoderPeer(self, weights, dtype), torch.tensor(self.ids())
        return model.forward, (ids,)


# ---- The same weights ----------------------------------------------------------------------------------------------

def make_weights(shape):
    torch.manual_seed(0)
    weights = decoder_weights(shape) if isinstance(shape, Decoder) else ranking_weights(shape)
    return {name: value.bfloat16().float().contiguous() for name, value in weights.items()}


def decoder_weights(shape):
    weights = {"embedding.weight": torch.randn(shape.items, shape.dim)}
    sizes = [(f"layers.{i}.{name}", shape.dim, shape.dim) for i in range(shape.layers)
             for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    for i in range(shape.layers):
        sizes += [(f"layers.{i}.ffn.0", 4 * shape.dim, shape.dim), (f"layers.{i}.ffn.2", shape.dim, 4 * shape.dim)]
    for name, outputs, inputs in sizes + [("head", shape.items, shape.dim)]:
        weights[name + ".weight"] = (2 * torch.rand(outputs, inputs) - 1) / inputs ** 0.5
        weights[name + ".bias"] = (2 * torch.rand(outputs) - 1) / inputs ** 0.5
    weights["norm.weight"], weights["norm.bias"] = 1 + 0.1 * torch.randn(shape.dim), 0.1 * torch.randn(shape.dim)
    return weights


def ranking_weights(shape):
    """By the names of NVIDIA's FUSED layers; matrices stand (in, out). Every value becomes one of bfloat16, so that
    both dtypes begin with the same numbers."""
    inner = shape.heads * shape.width
    weights = {"_hstu_block._preprocessor._positional_encoder._position_embeddings_weight":
               0.02 * torch.randn(POSITIONS, shape.dim)}
    for table in shape.config()["tables"]:
        rows = torch.randn(table["rows"], shape.dim) / shape.dim ** 0.5
        weights[f"_embedding_collection.{table['name']}.weight"] = rows
    for layer in range(shape.layers):
        prefix = f"_hstu_block._attention_layers.{layer}."
        weights[prefix + "_linear_uvqk_weight"] = 0.03 * torch.randn(shape.dim, 4 * inner)
        weights[prefix + "_linear_uvqk_bias"] = 0.03 * torch.randn(4 * inner)
        weights[prefix + "_linear_proj_weight"] = 0.03 * torch.randn(inner, shape.dim)
        for side, size in (("input", shape.dim), ("output", inner)):
            weights[prefix + f"_{side}_layernorm_weight"] = 1 + 0.1 * torch.randn(size)
            weights[prefix + f"_{side}_layernorm_bias"] = 0.1 * torch.randn(size)
    inputs = shape.dim
    for i, outputs in enumerate(HEAD):
        weights[f"_mlp._mlp.{2 * i}.weight"] = torch.randn(outputs, inputs) / inputs ** 0.5
        weights[f"_mlp._mlp.{2 * i}.bias"] = 0.1 * torch.randn(outputs)
        inputs = outputs
    return weights


def write_safetensors(path, weights, metadata):
    header, at = {"__metadata__": metadata}, 0
    for name, value in weights.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + 4 * value.numel()]}
        at += 4 * value.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64 + 56)  # the data begin at a multiple of 64
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for value in weights.values():
            out.write(ctypes.string_at(value.data_ptr(), 4 * value.numel()))


# ---- The same inputs -----------------------------------------------------------------------------------------------

def pick(kind, i, n):
    """As in cli/bench_request.c."""
    mask = (1 << 64) - 1
    x = (kind * 0x9e3779b97f4a7c15 + i) & mask
    x = ((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9) & mask
    x = ((x ^ (x >> 27)) * 0x94d049bb133111eb) & mask
    return (x ^ (x >> 31)) % n


class Request:
    def __init__(self, shape):
        self.items = [1 + pick(1, i, ITEMS - 1) for i in range(shape.events)]
        self.actions = [pick(2, i, USED_ACTIONS) for i in range(shape.events)]
        self.candidates = [1 + pick(3, i, ITEMS - 1) for i in range(shape.candidates)]
        self.context = {f"context_{i}": 1 for i in range(shape.context)}

    def line(self, events):
        return json.dumps({"user": 1, "items": self.items[:events], "actions": self.actions[:events],
                           "context": self.context, "candidates": self.candidates}) + "\n"


# ---- The peer ------------------------------------------------------------------------------------------------------

class RankingPeer:
    def __init__(self, shape, weights, dtype):
        self.shape = shape
        inner = shape.heads * shape.width
        weight = {name: value.to(dtype) for name, value in weights.items()}
        self.table = {name.split(".")[1]: value for name, value in weight.items() if name.startswith("_embedding_")}
        self.position = weight["_hstu_block._preprocessor._positional_encoder._position_embeddings_weight"]
        self.layers = []
        for layer in range(shape.layers):
            w = {name[len(f"_hstu_block._attention_layers.{layer}._"):]: value for name, value in weight.items()
                 if name.startswith(f"_hstu_block._attention_layers.{layer}.")}
            for name in ("linear_uvqk_weight", "linear_proj_weight"):  # as torch.nn.Linear has them
                w[name] = w[name].t().contiguous()
            self.layers.append(w)
        self.head = [(weight[f"_mlp._mlp.{2 * i}.weight"], weight[f"_mlp._mlp.{2 * i}.bias"]) for i in range(len(HEAD))]
        self.inner = inner
        self.kv, self.first = None, 0

    def layer(self, x, w, past, first):
        """The rows `first` and after of tokens and candidates; past: keys and values of those before."""
        s = self.shape
        normed = functional.layer_norm(x, (s.dim,), w["input_layernorm_weight"], w["input_layernorm_bias"], EPS)
        z = functional.silu(functional.linear(normed, w["linear_uvqk_weight"], w["linear_uvqk_bias"]))
        u, v, q, k = z.split(self.inner, 1)
        n = x.shape[0]
        q, k, v = (t.view(n, s.heads, s.width) for t in (q, k, v))
        if past is not None:
            k, v = torch.cat([past[0], k]), torch.cat([past[1], v])
        scores = functional.silu(torch.einsum("ihd,jhd->hij", q, k) * (1 / math.sqrt(s.width)))
        row, column = torch.arange(first, first + n)[:, None], torch.arange(first + n)[None, :]
        allowed = (column <= row) & ((column < s.history) | (column == row))
        scores = (scores * allowed) / s.divisor
        attended = torch.einsum("hij,jhd->ihd", scores.to(v.dtype), v).reshape(n, self.inner)
        gated = functional.layer_norm(
            attended, (self.inner,), w["output_layernorm_weight"], w["output_layernorm_bias"], EPS) * u
        return functional.linear(gated, w["linear_proj_weight"]) + x, k, v

    def tokens(self, context, items, actions, candidates, first):
        n_context = self.shape.context if first == 0 else 0
        contexts = [self.table[f"context_{i}"][context[i:i + 1]] for i in range(n_context)]
        pairs = torch.stack([self.table["item"][items], self.table["action"][actions]], 1).flatten(0, 1)
        x = torch.cat(contexts + [pairs, self.table["item"][candidates]])
        at = torch.arange(first, first + x.shape[0]).clamp(max=min(self.shape.history, POSITIONS - 1))
        return x * math.sqrt(self.shape.dim) + self.position[at]

    def forward(self, context, items, actions, candidates):
        x = self.tokens(context, items, actions, candidates, self.first)
        for i, w in enumerate(self.layers):
            x, _, _ = self.layer(x, w, self.kv[i] if self.kv else None, self.first)
        x = x[x.shape[0] - self.shape.candidates:]
        x = x / x.norm(dim=-1, keepdim=True).clamp(min=L2_EPS)
        for i, (weight, bias) in enumerate(self.head):
            x = functional.linear(x, weight, bias)
            x = functional.relu(x) if i + 1 < len(self.head) else x
        return x

    def prepare(self, request):
        """Keys and values of the cached events; gives the call and its arguments."""
        s, cut = self.shape, self.shape.cached_events
        context = torch.tensor(list(request.context.values()), dtype=torch.int64)
        items, actions = torch.tensor(request.items), torch.tensor(request.actions)
        if cut:
            x = self.tokens(context, items[:cut], actions[:cut], items[:0], 0)
            self.kv = []
            for w in self.layers:
                x, k, v = self.layer(x, w, None, 0)
                self.kv.append((k, v))
            self.first = s.cached
        return self.forward, (context, items[cut:], actions[cut:], torch.tensor(request.candidates))


class DecoderPeer:
    """The best items by the newest event's row, whose position alone reaches the head."""

    def __init__(self, shape, weights, dtype):
        self.shape, self.w = shape, {name: value.to(dtype) for name, value in weights.items()}
        angle = torch.arange(shape.history)[:, None] * torch.exp(
            torch.arange(0, shape.dim, 2).float() * (-math.log(10000.0) / shape.dim))
        self.position = torch.stack([angle.sin(), angle.cos()], 2).flatten(1).to(dtype)
        self.mask = torch.full((shape.history, shape.history), float("-inf"), dtype=dtype).triu(1)

    def linear(self, name, x):
        return functional.linear(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def forward(self, ids):
        x = self.w["embedding.weight"][ids] + self.position
        for i in range(self.shape.layers):
            q, k, v = (self.linear(f"layers.{i}.{name}_proj", x) for name in "qkv")
            scores = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(self.shape.dim) + self.mask, -1)
            x = x + self.linear(f"layers.{i}.out_proj", scores @ v)
            x = x + self.linear(f"layers.{i}.ffn.2", functional.gelu(self.linear(f"layers.{i}.ffn.0", x)))
        newest = functional.layer_norm(x[:, -1], (self.shape.dim,), self.w["norm.weight"], self.w["norm.bias"], EPS)
        logits = self.linear("head", newest)
        best = logits.topk(TOP_K)
        return best.values, best.indices, logits


def measure(call, least_s):
    """Milliseconds of each call."""
    times, begin = [], time.perf_counter()
    call()
    while len(times) < 3 or time.perf_counter() - begin < least_s:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times


# ---- hstu ----------------------------------------------------------------------------------------------------------

def run_hstu(arguments):
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def hstu_answers(options, shape, model, dtype, folder):
    path = os.path.join(folder, "requests.jsonl")
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(shape.requests())
    cache = ["--kv_cache", "--kv_cache_bytes", "4GiB"] if shape.cached else []
    cache += ["--top_k", str(TOP_K)] if isinstance(shape, Decoder) else []
    text = run_hstu([options.hstu, "run", "--quiet", "--checkpoint", model, "--requests", path, "--batch_size", "1",
                     "--dtype", dtype, "--threads", str(options.threads)] + cache)
    return [json.loads(line) for line in text.splitlines()]


def hstu_row(options, shape, model, dtype):
    text = run_hstu([options.hstu, "bench", "--quiet", "--json", "--checkpoint", model, "--dtype", dtype, "--threads",
                     str(options.threads), "--min_ms", str(int(1e3 * options.seconds)), "--peak_ms", str(PEAK_MS)] +
                    shape.bench_options())
    row = json.loads(text)["rows"][0]
    if row["cached"] != shape.cached:
        sys.exit(f"{shape.name}: hstu measured {row['cached']} cached tokens, not {shape.cached}")
    return row


# ---- Both ----------------------------------------------------------------------------------------------------------

def compare(options, shape, model, weights, dtype, folder):
    forward, arguments = shape.peer(weights, DTYPES[dtype])
    calls = {"eager": lambda: forward(*arguments)}
    error = shape.agree(hstu_answers(options, shape, model, dtype, folder), calls["eager"])
    if not error <= ALLOWED[dtype]:
        sys.exit(f"{shape.name}, {dtype}: answers differ by {error:.2g} of the largest, allowed are {ALLOWED[dtype]}")
    if options.compile:
        compiled = torch.compile(forward, dynamic=False)
        calls["compile"] = lambda: compiled(*arguments)
    rounds = []
    for _ in range(options.rounds):
        rounds.append({"hstu": hstu_row(options, shape, model, dtype)})
        for name, call in calls.items():
            rounds[-1][name] = measure(call, options.seconds)
    return {"shape": shape.name, "dtype": dtype, "threads": options.threads, "torch": torch.__version__, "error": error,
            "rounds": rounds}


def print_row(result):
    best = {"hstu": min(r["hstu"]["call_ms"]["best"] for r in result["rounds"])}
    median = {"hstu": statistics.median(r["hstu"]["call_ms"]["median"] for r in result["rounds"])}
    peers = [name for name in ("eager", "compile") if name in result["rounds"][0]]
    for name in peers:
        best[name] = min(min(r[name]) for r in result["rounds"])
        median[name] = statistics.median(statistics.median(r[name]) for r in result["rounds"])
    cells = [result["shape"], result["dtype"], str(result["threads"])]
    for name in ("hstu", "eager", "compile"):
        cells.append(f"{median[name]:.3f} ({best[name]:.3f})" if name in median else "-")
    cells.append(f"{min(median[name] for name in peers) / median['hstu']:.1f}")
    cells.append(f"{min(best[name] for name in peers) / best['hstu']:.1f}")
    cells.append(f"{result['error']:.1e}")
    yardsticks = [r["hstu"]["yardstick_gflops_" + when] for r in result["rounds"] for when in ("before", "behind")]
    cells.append(f"{max(r['hstu']['peak_gflops'] for r in result['rounds']):.0f}")
    cells.append(f"{min(yardsticks):.0f} - {max(yardsticks):.0f}")
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    names = [*RANKING, *DECODERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hstu", default="build/cli/hstu", help="the program (default: build/cli/hstu)")
    parser.add_argument("--shapes", default=",".join(names), help="some of " + ",".join(names) + " (default: all)")
    parser.add_argument("--items", type=int, default=50000, help="of the decoder (default: 50000)")
    parser.add_argument("--dtypes", default="fp32,bf16", help="fp32, bf16 or both (default)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each in a round, at least (default: 1.5)")
    parser.add_argument("--compile", action="store_true", help="torch.compile too (PyTorch 2)")
    parser.add_argument("--json", metavar="FILE", help="writes every round's figures")
    options = parser.parse_args()
    shapes, dtypes = options.shapes.split(","), options.dtypes.split(",")
    for wrong in [s for s in shapes if s not in names] + [d for d in dtypes if d not in DTYPES]:
        parser.error(f"no such shape or dtype: {wrong}")
    if options.rounds < 1 or options.threads < 1 or options.seconds < 0 or options.items <= TOP_K:
        parser.error(f"--rounds and --threads are at least 1, --seconds at least 0, --items more than {TOP_K}")
    if options.compile and not hasattr(torch, "compile"):
        parser.error(f"--compile wants PyTorch 2, found {torch.__version__}")
    torch.set_num_threads(options.threads)
    print(f"ms of a call: median (best) of {options.rounds} rounds in turns, PyTorch {torch.__version__}; "
          "ratios to PyTorch's best; hstu's peak and yardstick in GFLOP/s, of all rounds\n")
    print("| shape | dtype | threads | hstu | PyTorch eager | torch.compile | ratio of medians | ratio of bests "
          "| error | peak | yardstick |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name in shapes:
            shape = Decoder(name, DECODERS[name], options.items) if name in DECODERS else Ranking(name, RANKING[name])
            weights, model = make_weights(shape), os.path.join(folder, "model.safetensors")
            write_safetensors(model, weights, {"hstu_config": json.dumps(shape.config())})
            for dtype in dtypes:
                results.append(compare(options, shape, model, weights, dtype, folder))
                print_row(results[-1])
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(results, out, indent=2)
            out.write("\n")


main()
