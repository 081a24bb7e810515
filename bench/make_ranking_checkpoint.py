#!/usr/bin/env python3
"""Writes a checkpoint folder of NVIDIA's layout with a dynamic item table of any size, to measure how fast it opens.

usage: make_ranking_checkpoint.py ROWS OUT

Sizes are those of the preset kuairand_1k_ranking (hidden size 512, 3 layers, 4 heads of 128); weights are random, with
a fixed seed. The item table's values are a sparse file: every row is zero until something is written into it. Needs
numpy and PyTorch.
"""
import collections
import os
import sys

import numpy
import torch

HIDDEN, LAYERS, HEADS, HEAD_DIM, POSITIONS, HEAD = 512, 3, 4, 128, 8192, [512, 8]
STATIC = {"user_active_degree": 8, "follow_user_num_range": 9, "fans_user_num_range": 9, "friend_user_num_range": 8,
          "register_days_range": 8, "action_weights": 233}
USERS = 1000
COLLECTION = "_embedding_collection._data_parallel_embedding_collection.embeddings."
DYNAMIC = "dynamicemb_module/model._embedding_collection._model_parallel_embedding_collection"


def random(*shape, scale=0.02):
    return torch.randn(*shape) * scale


def dense_weights():
    width = HEADS * HEAD_DIM
    weights = {"_hstu_block._preprocessor._positional_encoder._position_embeddings_weight": random(POSITIONS, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"_hstu_block._attention_layers.{layer}."
        weights[prefix + "_linear_uvqk_weight"] = random(HIDDEN, 4 * width)
        weights[prefix + "_linear_uvqk_bias"] = torch.zeros(4 * width)
        weights[prefix + "_linear_proj_weight"] = random(width, HIDDEN)
        for side, size in (("input", HIDDEN), ("output", width)):
            weights[prefix + f"_{side}_layernorm_weight"] = torch.ones(size)
            weights[prefix + f"_{side}_layernorm_bias"] = torch.zeros(size)
    inputs = HIDDEN
    for i, outputs in enumerate(HEAD):
        weights[f"_mlp._mlp.{2 * i}.weight"] = random(outputs, inputs, scale=0.1)
        weights[f"_mlp._mlp.{2 * i}.bias"] = torch.zeros(outputs)
        inputs = outputs
    weights = {name: value.bfloat16() for name, value in weights.items()}
    flat = random(sum(STATIC.values()) * HIDDEN)
    return collections.OrderedDict([(COLLECTION + "/".join(STATIC) + "_weights", flat), *weights.items()])


def write_table(folder, name, rows):
    """Keys in an order without a pattern; values of zeros, without blocks on the disk."""
    stem = os.path.join(folder, name + "_emb_%s.rank_0.world_size_1")
    numpy.random.default_rng(1).permutation(rows).astype("<i8").tofile(stem % "keys")
    with open(stem % "values", "wb") as values:
        values.truncate(rows * HIDDEN * 4)
    with open(os.path.join(folder, name + "_opt_args.json"), "w", encoding="utf-8") as options:
        options.write('{"opt_type": "adam", "evict_strategy": "EvictStrategy.KLru", "dist_type": "roundrobin"}\n')


def main(rows, out):
    torch.manual_seed(0)
    os.makedirs(os.path.join(out, "torch_module"), exist_ok=True)
    os.makedirs(os.path.join(out, DYNAMIC), exist_ok=True)
    torch.save({"model_state_dict": dense_weights(), "optimizer_state_dict": None},
               os.path.join(out, "torch_module/model.0.pth"))
    write_table(os.path.join(out, DYNAMIC), "video_id", rows)
    write_table(os.path.join(out, DYNAMIC), "user_id", USERS)


if len(sys.argv) != 3 or not sys.argv[1].isdigit():
    sys.exit(__doc__)
main(int(sys.argv[1]), sys.argv[2])
