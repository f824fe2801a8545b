"""A TCGA download on a cluster: the same batch on this machine, under SLURM, or on its GPUs.

    python pipelines/tcga_batch.py DOWNLOAD OUT --on local --workers 4
    python pipelines/tcga_batch.py DOWNLOAD OUT --on slurm --workers 32 --queue gpu
    python pipelines/tcga_batch.py DOWNLOAD OUT --on gpus

DOWNLOAD is what GDC's client made (UUID/NAME.svs), or its manifest. OUT must lie on a disk that all
machines see. Stop it and start it again as often as needed: what is done stays done, a slide under
way resumes after its last strip. OUT/report.html and OUT/slides.csv are kept up to date.

Needs the extra cluster (pip install -e '.[cluster]'); for SLURM also dask-jobqueue, for --on gpus
also dask-cuda. Any other dask cluster will do as well: start it, and give its address to
`wsi-segment --scheduler`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.cluster import run_on_cluster
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.cli.batch_screen import batch_screen
from wsi_sampath.errors import WsiError
from wsi_sampath.inference.settings import SegmentSettings


def local_cluster(arguments: argparse.Namespace) -> Any:
    """Start worker processes here."""
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    return import_module("distributed").LocalCluster(
        n_workers=arguments.workers,
        threads_per_worker=1,
        memory_limit=0,
        silence_logs=logging.CRITICAL,
        # Otherwise dask gives torch one thread per worker.
        env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))},
    )


def slurm_cluster(arguments: argparse.Namespace) -> Any:
    """Have SLURM start workers with one GPU each; those that end with their job are replaced.

    The scheduler lives in this process: run it where it may stay, as on a login node or in a job
    of its own. A worker whose time is up is lost like any other, and its slide resumes elsewhere.
    """
    cluster = import_module("dask_jobqueue").SLURMCluster(
        queue=arguments.queue,
        cores=arguments.cores,
        processes=1,
        memory=arguments.memory,
        walltime=arguments.walltime,
        job_extra_directives=["--gres=gpu:1"],
        worker_extra_args=["--resources", "GPU=1"],
        job_script_prologue=[f"export OMP_NUM_THREADS={arguments.cores}"],
    )
    cluster.adapt(minimum_jobs=1, maximum_jobs=arguments.workers)
    return cluster


def gpu_cluster(arguments: argparse.Namespace) -> Any:
    """Start one worker for every GPU of this machine; each sees its own as the first."""
    return import_module("dask_cuda").LocalCUDACluster(
        threads_per_worker=1, resources={"GPU": 1}, memory_limit=0
    )


CLUSTERS = {"local": local_cluster, "slurm": slurm_cluster, "gpus": gpu_cluster}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("download", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="gland-mini")
    parser.add_argument("--on", choices=CLUSTERS, default="local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queue", help="SLURM partition")
    parser.add_argument("--walltime", default="8:00:00")
    parser.add_argument("--cores", type=int, default=8)
    parser.add_argument("--memory", default="32GB")
    parser.add_argument("--retry-failed", action="store_true")
    return parser.parse_args(words)


def tell(outcome: Outcome) -> None:
    """Name the slides that fail as they fail."""
    if not outcome.done:
        print(outcome.line(), file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> int:
    """Run the batch; returns 1 where a slide failed."""
    arguments = parse(words)
    try:
        jobs = plan_jobs([arguments.download], arguments.out)
        with CLUSTERS[arguments.on](arguments) as cluster:
            batch = Batch(
                jobs,
                SegmentSettings(model=arguments.model),
                arguments.out,
                BatchOptions(retry_failed=arguments.retry_failed),
                batch_screen(tell),
            )
            outcomes = run_on_cluster(batch, cluster.scheduler_address)
    except WsiError as error:
        print(error.line(), file=sys.stderr)
        return 2
    done = sum(outcome.done for outcome in outcomes)
    print(f"{done} of {len(jobs)} slides done; see {arguments.out / 'report.html'}")
    return 0 if done == len(jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
