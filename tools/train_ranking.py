#!/usr/bin/env python3
"""Trains a small ranking HSTU on KuaiRand-Pure and saves it as a checkpoint folder of NVIDIA's recsys-examples.

Needs PyTorch 1.13 or later and numpy; the product needs neither. LOG_FOLDER holds log_standard_*_pure.csv and
user_features_pure.csv, plain or with .gz. Users with more than 20 events count: in ascending order of user_id, the
first 70 % train and the rest are held out, never looked at before the final evaluation. OUT gets torch_module,
dynamicemb_module, config.json, eval.json (held-out figures of the saved files) and logits.csv (the first 50 held-out
requests). Another machine or another version of PyTorch gives other weights.
"""
import argparse
import collections
import csv
import glob
import gzip
import json
import math
import os
import sys

import numpy
import torch
import torch.nn.functional as functional

TASKS = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"]
RANGES = ["user_active_degree", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range",
          "register_days_range"]
CONTEXTUAL = ["user_id"] + RANGES
ITEM, ACTION = "video_id", "action_weights"
MAX_HISTORY, MAX_CANDIDATES = 200, 20
LOGITS_OF = 50  # held-out requests in logits.csv
COLLECTION = "_embedding_collection._%s_parallel_embedding_collection.embeddings."
DYNAMIC_FOLDER = "dynamicemb_module/model._embedding_collection._model_parallel_embedding_collection"
LAYER = "_hstu_block._attention_layers.%d."
POSITIONS = "_hstu_block._preprocessor._positional_encoder._position_embeddings_weight"

# One user: `context` are the ids of CONTEXTUAL, `items` and `actions` the events in order of time.
User = collections.namedtuple("User", "context items actions")
# `history` events of `items` and `actions`, then the candidates.
Request = collections.namedtuple("Request", "context items actions history")


# ---- Data ----------------------------------------------------------------------------------------------------------

def open_csv(path):
    opener = gzip.open if path.endswith(".gz") else open
    return opener(path, "rt", encoding="utf-8", newline="")


def find_files(folder, pattern):
    """By name; of a file and its .gz the former."""
    plain = glob.glob(os.path.join(folder, pattern))
    packed = [path for path in glob.glob(os.path.join(folder, pattern + ".gz")) if path[:-3] not in plain]
    if not plain + packed:
        sys.exit(f"{folder}: expected {pattern} or {pattern}.gz, found neither")
    return sorted(plain + packed)


def read_log(path):
    """(time, video, bit mask of actions) of each user, in the file's order."""
    events = collections.defaultdict(list)
    with open_csv(path) as source:
        rows = csv.reader(source)
        column = {name: i for i, name in enumerate(next(rows))}
        user, time_ms, item = column["user_id"], column["time_ms"], column[ITEM]
        bits = [(column[task], 1 << bit) for bit, task in enumerate(TASKS)]
        for row in rows:
            mask = sum(weight for at, weight in bits if int(row[at]) != 0)
            events[int(row[user])].append((int(row[time_ms]), int(row[item]), mask))
    return events


def read_contexts(path):
    """The contextual ids of each user, and the number of codes of each range: from 1, by first appearance."""
    codes = [{} for _ in RANGES]
    contexts = {}
    with open_csv(path) as source:
        for row in csv.DictReader(source):
            user = int(row["user_id"])
            contexts[user] = [user] + [code.setdefault(row[name], len(code) + 1) for name, code in zip(RANGES, codes)]
    return contexts, [len(code) for code in codes]


def read_users(folder):
    """Users with more than MAX_CANDIDATES events, by ascending id, and the numbers of codes.

    Only users that every log and the features hold count; duplicates stay, events of the same time keep their order."""
    logs = [read_log(path) for path in find_files(folder, "log_standard_*_pure.csv")]
    contexts, n_codes = read_contexts(find_files(folder, "user_features_pure.csv")[0])
    users = []
    for user in sorted(set(contexts).intersection(*logs)):
        events = sorted((event for log in logs for event in log[user]), key=lambda event: event[0])
        if len(events) > MAX_CANDIDATES:
            users.append(User(contexts[user], [e[1] for e in events], [e[2] for e in events]))
    return users, n_codes


def request_of(user):
    """The reference's: the oldest events are kept, the last MAX_CANDIDATES of these are the candidates."""
    end = min(len(user.items), MAX_HISTORY + MAX_CANDIDATES)
    return Request(user.context, user.items[:end], user.actions[:end], end - MAX_CANDIDATES)


def request_at_random_cut(user, rng):
    history = rng.integers(1, min(len(user.items) - 1, MAX_HISTORY) + 1)
    end = min(len(user.items), history + MAX_CANDIDATES)
    return Request(user.context, user.items[:end], user.actions[:end], int(history))


def padded(lists, fill):
    out = numpy.full((len(lists), max(map(len, lists))), fill, dtype=numpy.int64)
    for row, values in zip(out, lists):
        row[:len(values)] = values
    return torch.from_numpy(out)


class Batch:
    """B requests: contextual ids [B, C], history [B, h], candidates and labels [B, c], ragged ends padded with 0."""

    def __init__(self, requests, device):
        self.contexts = torch.tensor([r.context for r in requests]).to(device)
        self.items = padded([r.items[:r.history] for r in requests], 0).to(device)
        self.actions = padded([r.actions[:r.history] for r in requests], 0).to(device)
        self.candidates = padded([r.items[r.history:] for r in requests], 0).to(device)
        self.labels = padded([r.actions[r.history:] for r in requests], 0).to(device)
        self.history = torch.tensor([r.history for r in requests]).to(device)
        n_candidates = torch.tensor([len(r.items) - r.history for r in requests]).to(device)
        self.is_candidate = torch.arange(self.candidates.shape[1], device=device) < n_candidates[:, None]


def targets(labels):
    """0 or 1 per task, [..., 8]."""
    return (labels[..., None] >> torch.arange(len(TASKS), device=labels.device) & 1).float()


# ---- Model ---------------------------------------------------------------------------------------------------------

class DynamicTable(torch.nn.Module):
    """Rows by raw id; an id without a row has the zero vector."""

    def __init__(self, keys, dim):
        super().__init__()
        self.register_buffer("keys", torch.tensor(sorted(keys)))
        self.rows = torch.nn.Embedding(len(keys) + 1, dim, padding_idx=len(keys))

    def forward(self, ids, dropped=0.0):
        at = torch.searchsorted(self.keys, ids.contiguous()).clamp(max=len(self.keys) - 1)
        missing = self.keys[at] != ids
        if self.training and dropped > 0:
            missing = missing | (torch.rand(ids.shape, device=ids.device) < dropped)
        return self.rows(torch.where(missing, torch.full_like(at, len(self.keys)), at))


class Layer(torch.nn.Module):
    """One HSTU layer; the names of its parameters are those of NVIDIA's FUSED layer, matrices stand (in, out)."""

    def __init__(self, config):
        super().__init__()
        self.heads, self.dim = config["num_attention_heads"], config["kv_channels"]
        self.eps, self.divisor = config["norm_epsilon"], config["scaling_seqlen"]
        width, inner = config["hidden_size"], self.heads * self.dim
        shapes = {"linear_uvqk_weight": (width, 4 * inner), "linear_uvqk_bias": (4 * inner,),
                  "input_layernorm_weight": (width,), "input_layernorm_bias": (width,),
                  "output_layernorm_weight": (inner,), "output_layernorm_bias": (inner,),
                  "linear_proj_weight": (inner, width)}
        for name, shape in shapes.items():
            value = torch.ones(shape) if "layernorm_weight" in name else torch.zeros(shape)
            if len(shape) == 2:
                torch.nn.init.xavier_uniform_(value)
            setattr(self, "_" + name, torch.nn.Parameter(value))

    def norm(self, x, side):
        weight, bias = getattr(self, f"_{side}_layernorm_weight"), getattr(self, f"_{side}_layernorm_bias")
        return functional.layer_norm(x, weight.shape, weight, bias, self.eps)

    def forward(self, x, allowed, dropout):
        b, n, _ = x.shape
        z = functional.silu(self.norm(x, "input") @ self._linear_uvqk_weight + self._linear_uvqk_bias)
        u, v, q, k = z.chunk(4, dim=-1)
        v, q, k = (t.view(b, n, self.heads, self.dim).transpose(1, 2) for t in (v, q, k))
        scores = functional.silu(q @ k.transpose(2, 3) / math.sqrt(self.dim)) * allowed[:, None]
        attended = (scores @ v / self.divisor).transpose(1, 2).reshape(b, n, self.heads * self.dim)
        gated = functional.dropout(self.norm(attended, "output") * u, dropout, self.training)
        return x + gated @ self._linear_proj_weight


class Model(torch.nn.Module):
    """`keys`: the ids of each dynamic table. Without a contextual mask, as the reference's ranking configuration."""

    def __init__(self, config, keys):
        super().__init__()
        self.config = config
        width = config["hidden_size"]
        self.tables = torch.nn.ModuleDict()
        for table in config["tables"]:
            name, dynamic = table["name"], table["dynamic"]
            self.tables[name] = DynamicTable(keys[name], width) if dynamic else torch.nn.Embedding(table["rows"], width)
        self.positions = torch.nn.Parameter(torch.empty(config["num_position_buckets"], width))
        self.layers = torch.nn.ModuleList(Layer(config) for _ in range(config["num_layers"]))
        sizes = [width] + config["prediction_head_arch"]
        self.head = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def initialize(self, std, label_rates):
        for table in self.tables.values():
            rows = table.rows if isinstance(table, DynamicTable) else table
            torch.nn.init.normal_(rows.weight, std=std)
            if rows.padding_idx is not None:
                rows.weight.data[rows.padding_idx] = 0
        torch.nn.init.normal_(self.positions, std=0.02)
        rates = torch.tensor(label_rates)
        self.head[-1].bias.data = torch.log(rates / (1 - rates)).float()

    def tokens(self, batch, drop):
        """Embeddings [B, C + 2h + c, D]: contextual features, item and action alternately, candidates."""
        contexts = []
        for i, name in enumerate(self.config["contextual"]):
            ids = batch.contexts[:, i, None]
            contexts.append(self.tables[name](ids, drop.user) if name == "user_id" else self.tables[name](ids))
        items = self.tables[ITEM](batch.items, drop.item)
        pairs = torch.stack([items, self.tables[ACTION](batch.actions)], dim=2).flatten(1, 2)
        return torch.cat(contexts + [pairs, self.tables[ITEM](batch.candidates, drop.item)], dim=1)

    def forward(self, batch, drop):
        """Logits [B, c, tasks]; the rows of padded candidates mean nothing."""
        device, n_contexts = batch.items.device, len(self.config["contextual"])
        n_history = n_contexts + batch.items.shape[1] * 2
        x = self.tokens(batch, drop)
        at = torch.arange(x.shape[1], device=device)
        end = n_contexts + 2 * batch.history[:, None]  # of each request's contextual and history tokens
        is_candidate = at >= n_history
        index = torch.where(is_candidate, end, at.expand(len(x), -1)).minimum(end)
        index = index.clamp(max=self.config["num_position_buckets"] - 1)
        x = x * math.sqrt(x.shape[2]) + self.positions[index]
        x = functional.dropout(x, drop.hidden, self.training)
        before = (at[None, :] <= at[:, None])[None] & (at < end)[:, None, :] & ~is_candidate
        allowed = before | torch.diag(is_candidate)
        for layer in self.layers:
            x = layer(x, allowed, drop.hidden)
        x = x[:, n_history:]
        x = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        for linear in self.head[:-1]:
            x = functional.relu(linear(x))
        return self.head[-1](x)


Drop = collections.namedtuple("Drop", "hidden user item")  # probabilities, of training only
NO_DROP = Drop(0.0, 0.0, 0.0)


# ---- Checkpoint folder ---------------------------------------------------------------------------------------------

def make_config(n_codes):
    tables = [{"name": "user_id", "dynamic": True}]
    tables += [{"name": name, "dynamic": False, "rows": n + 1} for name, n in zip(RANGES, n_codes)]
    tables += [{"name": ITEM, "dynamic": True}, {"name": ACTION, "dynamic": False, "rows": 1 << len(TASKS)}]
    return {
        "family": "ranking", "hidden_size": 128, "num_layers": 1, "num_attention_heads": 4, "kv_channels": 128,
        "norm_epsilon": 1e-05, "num_position_buckets": 1024, "contextual": CONTEXTUAL, "item_feature": ITEM,
        "action_feature": ACTION, "max_history_seqlen": MAX_HISTORY, "max_num_candidates": MAX_CANDIDATES,
        "scaling_seqlen": len(CONTEXTUAL) + 2 * (MAX_HISTORY + MAX_CANDIDATES), "contextual_mask": False,
        "prediction_head_arch": [512, len(TASKS)], "prediction_head_act_type": "relu", "prediction_head_bias": True,
        "num_tasks": len(TASKS), "tables": tables,
        "feature_to_table": {table["name"]: table["name"] for table in tables},
        "dataset": "KuaiRand-Pure"}


def static_key(names):
    return COLLECTION % "data" + "/".join(names) + "_weights"


def dense_parameters(model):
    """The reference's name of every weight outside the tables."""
    yield POSITIONS, model.positions
    for i, layer in enumerate(model.layers):
        for name, value in layer.named_parameters():
            yield LAYER % i + name, value
    for i, linear in enumerate(model.head):
        yield f"_mlp._mlp.{2 * i}.weight", linear.weight
        yield f"_mlp._mlp.{2 * i}.bias", linear.bias


def table_file(folder, table, kind):
    return os.path.join(folder, DYNAMIC_FOLDER, f"{table}_emb_{kind}.rank_0.world_size_1")


def save_dynamic(folder, name, table, options):
    """Keys little-endian int64, rows float32, and the options that the reference's loader asks for."""
    rows = table.rows.weight.detach()[:-1]
    table.keys.cpu().numpy().astype("<i8").tofile(table_file(folder, name, "keys"))
    rows.cpu().numpy().astype("<f4").tofile(table_file(folder, name, "values"))
    with open(os.path.join(folder, DYNAMIC_FOLDER, name + "_opt_args.json"), "w", encoding="utf-8") as target:
        json.dump(options, target, indent=4)


def save(model, folder, options):
    os.makedirs(os.path.join(folder, "torch_module"), exist_ok=True)
    os.makedirs(os.path.join(folder, DYNAMIC_FOLDER), exist_ok=True)
    state, static = collections.OrderedDict(), []
    for name, table in model.tables.items():
        if isinstance(table, DynamicTable):
            save_dynamic(folder, name, table, options)
            state[COLLECTION % "model" + name + ".weight"] = torch.zeros(1, 1)
        else:
            static.append(name)
    state[static_key(static)] = torch.cat([model.tables[name].weight.detach().flatten() for name in static]).cpu()
    for name, value in dense_parameters(model):
        state[name] = value.detach().to(torch.bfloat16).cpu()
    checkpoint = {"model_state_dict": state, "optimizer_state_dict": None}
    torch.save(checkpoint, os.path.join(folder, "torch_module/model.0.pth"))
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as target:
        json.dump(model.config, target, indent=1)
        target.write("\n")


def load(folder, config):
    """The saved model on the CPU, every weight widened to fp32."""
    state = torch.load(os.path.join(folder, "torch_module/model.0.pth"), map_location="cpu")["model_state_dict"]
    dynamic = [table["name"] for table in config["tables"] if table["dynamic"]]
    static = [table["name"] for table in config["tables"] if not table["dynamic"]]
    keys = {name: numpy.fromfile(table_file(folder, name, "keys"), "<i8") for name in dynamic}
    model = Model(config, keys)
    with torch.no_grad():
        for name in dynamic:
            rows = numpy.fromfile(table_file(folder, name, "values"), "<f4").reshape(len(keys[name]), -1)
            weight = model.tables[name].rows.weight
            weight[:-1] = torch.from_numpy(rows[numpy.argsort(keys[name])])
            weight[-1] = 0
        parts = state[static_key(static)].split([model.tables[name].weight.numel() for name in static])
        for name, part in zip(static, parts):
            model.tables[name].weight.copy_(part.view_as(model.tables[name].weight))
        for name, value in dense_parameters(model):
            value.copy_(state[name])
    return model


# ---- Training ------------------------------------------------------------------------------------------------------

def make_optimizer(model, args):
    """Tables decay by --table-decay, matrices by 0.01, vectors not at all."""
    tables = list(model.tables.parameters())
    dense = [value for _, value in dense_parameters(model)]
    groups = [{"params": tables, "weight_decay": args.table_decay},
              {"params": [value for value in dense if value.dim() > 1], "weight_decay": 0.01},
              {"params": [value for value in dense if value.dim() == 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))


def task_weights(rates, power):
    """Rare tasks carry little of the loss: each counts by the entropy of its label rate to the power of 1 - power."""
    entropy = numpy.array([-sum(p * math.log(p) for p in (rate, 1 - rate)) for rate in rates])
    return torch.tensor(entropy ** -power * entropy.sum() / (entropy ** (1 - power)).sum()).float()


def train(model, users, rates, args, after_epoch):
    """Each epoch shows every user once per cut; the learning rate rises over the first and falls to 0 as a cosine."""
    rng = numpy.random.default_rng(args.seed)
    drop = Drop(args.dropout, args.user_dropout, args.item_dropout)
    optimizer = make_optimizer(model, args)
    weights = task_weights(rates, args.task_balance).to(args.device)
    n_steps = math.ceil(len(users) * args.cuts / args.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / n_steps) *
                                                 (0.5 + 0.5 * math.cos(math.pi * step / (n_steps * args.epochs))))
    for epoch in range(1, args.epochs + 1):
        model.train()
        total = 0.0
        order = rng.permutation(numpy.repeat(numpy.arange(len(users)), args.cuts))
        for at in range(0, len(order), args.batch_size):
            batch = Batch([request_at_random_cut(users[i], rng) for i in order[at:at + args.batch_size]], args.device)
            valid = batch.is_candidate
            loss = functional.binary_cross_entropy_with_logits(
                model(batch, drop)[valid], targets(batch.labels[valid]), weights.expand(int(valid.sum()), -1))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        after_epoch(epoch, total / n_steps)


# ---- Evaluation ----------------------------------------------------------------------------------------------------

def predict(model, requests, device):
    """fp32 logits [candidates, 8], request by request in order."""
    model.eval()
    parts = []
    with torch.no_grad():
        for at in range(0, len(requests), 64):
            batch = Batch(requests[at:at + 64], device)
            parts.append(model(batch, NO_DROP)[batch.is_candidate].cpu())
    return torch.cat(parts).numpy()


def auc(scores, positive):
    """Share of pairs (positive, negative) in the right order, ties as one half; None where a class lacks."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return None
    _, place = numpy.unique(scores, return_inverse=True)
    hits = numpy.bincount(place, weights=positive)
    misses = numpy.bincount(place, weights=~positive)
    below = numpy.cumsum(misses) - misses
    return float((hits * (below + 0.5 * misses)).sum() / (float(n_positive) * n_negative))


def gauc(scores, positive, user):
    """Mean AUC of the users with both classes, weighted by the user's candidates; and the number of these users."""
    total, weight, n_users = 0.0, 0, 0
    for start, end in zip(user, user[1:]):
        value = auc(scores[start:end], positive[start:end])
        if value is not None:
            total, weight, n_users = total + value * int(end - start), weight + int(end - start), n_users + 1
    return (total / weight if weight else None), n_users


def log_loss(logits, positive):
    x = logits.astype(numpy.float64)
    return float(numpy.mean(numpy.logaddexp(0, x) - x * positive))


def evaluate(logits, requests, train_rates):
    labels = numpy.concatenate([r.actions[r.history:] for r in requests])
    user = numpy.cumsum([0] + [len(r.items) - r.history for r in requests])
    tasks = {}
    for bit, name in enumerate(TASKS):
        positive = (labels >> bit & 1).astype(bool)
        scores, rate, constant = logits[:, bit], positive.mean(), train_rates[bit]
        loss = log_loss(scores, positive)
        entropy = -sum(p * math.log(p) for p in (rate, 1 - rate) if p > 0)
        baseline = -float(numpy.mean(numpy.where(positive, math.log(constant), math.log(1 - constant))))
        by_user, n_users = gauc(scores, positive, user)
        tasks[name] = {
            "auc": auc(scores, positive), "positives": int(positive.sum()), "negatives": int((~positive).sum()),
            "label_rate": float(rate), "log_loss": loss, "normalised_entropy": loss / entropy if entropy else None,
            "gauc": by_user, "gauc_users": n_users, "train_label_rate": float(constant), "baseline_log_loss": baseline}
    return {"n_requests": len(requests), "n_candidates": len(labels), "tasks": tasks}


def label_rates(users):
    """Of each task; a task without a label counts as 1 in 10,000, so that its logarithms are finite."""
    labels = numpy.concatenate([user.actions for user in users])
    return [float((labels >> bit & 1).mean().clip(1e-4, 1 - 1e-4)) for bit in range(len(TASKS))]


NOTES = {
    "model": "the saved files: bf16 weights widened to fp32, fp32 arithmetic on the CPU",
    "auc": "exact count over all (positive, negative) pairs of candidates of all requests; compares fp32 logits, ties "
           "count half",
    "log_loss": "natural logarithm, float64 from the fp32 logits",
    "normalised_entropy": "log_loss divided by the entropy of label_rate",
    "gauc": "mean of the AUC of the users with both classes, weighted by the user's number of candidates",
    "baseline_log_loss": "log loss of always predicting train_label_rate; its AUC is 0.5"}


def write_logits(path, logits, requests):
    at = 0
    with open(path, "w", encoding="utf-8") as target:
        target.write("user_id,candidate,label," + ",".join(f"logit{i}" for i in range(len(TASKS))) + "\n")
        for r in requests:
            for item, label in zip(r.items[r.history:], r.actions[r.history:]):
                target.write(f"{r.context[0]},{item},{label}," + ",".join("%.9g" % x for x in logits[at]) + "\n")
                at += 1


def finish(args, config, held_out, rates):
    """Evaluates what stands in the folder, not what was trained."""
    requests = [request_of(user) for user in held_out]
    logits = predict(load(args.out, config), requests, "cpu")
    options = {name: value for name, value in vars(args).items() if name not in ("log_folder", "out", "validation")}
    report = {"notes": NOTES, "training": options, "torch": torch.__version__, **evaluate(logits, requests, rates)}
    with open(os.path.join(args.out, "eval.json"), "w", encoding="utf-8") as target:
        json.dump(report, target, indent=1)
        target.write("\n")
    write_logits(os.path.join(args.out, "logits.csv"), logits, requests[:LOGITS_OF])
    print_tasks(report)


def print_tasks(report):
    for name, task in report["tasks"].items():
        shown = ["-" if task[key] is None else f"{task[key]:.4f}" for key in ("auc", "gauc", "normalised_entropy")]
        print("{:17} auc {} gauc {} ne {}".format(name, *shown), "positives", task["positives"])


# ---- Command line --------------------------------------------------------------------------------------------------

def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log_folder", metavar="LOG_FOLDER")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cuts", type=int, default=1, help="random cuts of each user's events in an epoch")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--dropout", type=float, default=0.5, help="of the tokens and the layer's gated output")
    parser.add_argument("--user-dropout", type=float, default=0.8, help="share of requests without the user's vector")
    parser.add_argument("--item-dropout", type=float, default=0.5, help="share of items without a vector")
    parser.add_argument("--task-balance", type=float, default=0.8, help="0: tasks count by entropy, 1: all alike")
    parser.add_argument("--table-decay", type=float, default=0.1, help="weight decay of the embedding tables")
    parser.add_argument("--table-std", type=float, default=0.02, help="of the tables' first values")
    parser.add_argument("--validation", type=float, metavar="SHARE", help="train without the last SHARE of the training"
                        " users, print their figures as training goes on, save nothing: for choosing the options above")
    return parser.parse_args()


def validate_every(n_epochs, model, requests, rates, args):
    def after_epoch(epoch, loss):
        if epoch % n_epochs == 0 or epoch == args.epochs:
            print(f"epoch {epoch} loss {loss:.5f}", flush=True)
            print_tasks(evaluate(predict(model, requests, args.device), requests, rates))
    return after_epoch


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = False
    users, n_codes = read_users(args.log_folder)
    n_train = int(0.7 * len(users))
    train_users, held_out = users[:n_train], users[n_train:]
    validation = []
    if args.validation:
        kept = int(n_train * (1 - args.validation))
        train_users, validation = train_users[:kept], train_users[kept:]
    print(f"{len(train_users)} users train, {len(validation)} validate, {len(held_out)} are held out", flush=True)
    rates = label_rates(train_users)
    config = make_config(n_codes)
    model = Model(config, {"user_id": {user.context[0] for user in train_users},
                           ITEM: {item for user in train_users for item in user.items}})
    model.initialize(args.table_std, rates)
    model.to(args.device)
    if args.validation:
        requests = [request_of(user) for user in validation]
        train(model, train_users, rates, args, validate_every(5, model, requests, rates, args))
        return
    train(model, train_users, rates, args, lambda epoch, loss: print(f"epoch {epoch} loss {loss:.5f}", flush=True))
    save(model, args.out, {
        "opt_type": "adam", "lr": args.lr, "iter_num": args.epochs * math.ceil(n_train * args.cuts / args.batch_size),
        "beta1": 0.9, "beta2": 0.98, "eps": 1e-08, "weight_decay": args.table_decay,
        "evict_strategy": "EvictStrategy.KLru", "dist_type": "roundrobin"})
    finish(args, config, held_out, rates)


if __name__ == "__main__":
    main()
