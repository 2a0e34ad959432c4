"""`python -m benchmarks.any_model`: torchvision's networks as they are, with their own heads.

Each runs in a process of its own: select 5 %, a GIF update, one ranking; times and peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch.utils.data import TensorDataset

import gifcore as gif

NETWORKS = ("resnet18", "vgg11_bn", "shufflenet_v2_x1_0")
SAMPLES, SIDE, CLASSES = 8, 32, 10  # colour images of noise: time and memory do not depend on it
ITERATIONS = 2


def run(name: str) -> dict[str, float]:
    """Return the seconds of each stage, the parameters and the peak memory in GB."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=CLASSES).eval()
    data = TensorDataset(torch.randn(SAMPLES, 3, SIDE, SIDE), torch.arange(SAMPLES) % 4)
    problem = gif.Problem(model, data, weight_decay=1e-4)
    change, solver = gif.RemoveClass(1), gif.LSMR(ITERATIONS, preconditioner="none")
    times = [time.perf_counter()]
    selected = gif.select(problem, change, selector="highest-k-gradients", ratio=0.05, seed=0)
    times.append(time.perf_counter())
    found = gif.influence(problem, change, method="gif", selected=selected, solver=solver)
    times.append(time.perf_counter())
    queries = gif.Queries(data, [[0]])
    scores = gif.rank(problem, queries, method="gif", selected=selected, solver=solver)
    times.append(time.perf_counter())
    if not bool(torch.isfinite(scores.values).all()):
        raise SystemExit(f"{name}: the scores are not finite")
    seconds = [b - a for a, b in zip(times, times[1:], strict=False)]
    return {
        "parameters": problem.space.size,
        "select": seconds[0],
        "update": seconds[1],
        "rank": seconds[2],
        "residual": found.solution.residual,
        "GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NETWORKS, help="this network, as JSON")
    only = parser.parse_args().only
    if only:
        print(json.dumps(run(only)))
        return
    table = Table(title=f"torchvision, {SAMPLES} images of 3 x {SIDE} x {SIDE}, GIF at 5 %")
    for column in ("network", "parameters", "select", "update", "one ranking", "peak memory"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name in NETWORKS:
        command = [sys.executable, "-m", "benchmarks.any_model", "--only", name]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(answer.stdout)
        times = [f"{found[stage]:.1f} s" for stage in ("select", "update", "rank")]
        table.add_row(name, f"{found['parameters']:,.0f}", *times, f"{found['GB']:.1f} GB")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
