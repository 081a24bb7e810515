#!/usr/bin/env python3
"""The evaluation of `hstu run --protocol ranking` in eager PyTorch: the same checkpoint, held-out users and batches, CPU, fp32.

The model is that of tools/train_ranking.py. Time goes from batches of ids to logits; batches are assembled beforehand, and padded to
their longest history. Prints one JSON object.
"""
import argparse
import json
import os
import sys
import time

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools"))
import train_ranking as reference  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="folder of the checkpoint, with its config.json")
    parser.add_argument("--logs", required=True, help="folder of the raw logs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with open(os.path.join(options.checkpoint, "config.json"), encoding="utf-8") as file:
        model = reference.load(options.checkpoint, json.load(file)).eval()
    users, _ = reference.read_users(options.logs)
    requests = [reference.request_of(user) for user in users[int(0.7 * len(users)):]]
    batches = [reference.Batch(requests[at:at + options.batch_size], "cpu")
               for at in range(0, len(requests), options.batch_size)]

    seconds = []
    with torch.inference_mode():
        for _ in range(options.repetitions + 1):  # the first pass is the warm-up
            start = time.perf_counter()
            for batch in batches:
                model(batch, reference.NO_DROP)[batch.is_candidate].sigmoid()
            seconds.append(time.perf_counter() - start)
    median = sorted(seconds[1:])[options.repetitions // 2]
    print(json.dumps({
        "peer": f"PyTorch {torch.__version__} eager", "threads": options.threads, "batch_size": options.batch_size,
        "requests": len(requests), "total_time_s": median, "throughput_rps": len(requests) / median}, indent=2))


main()
