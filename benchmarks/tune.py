"""Sweep of learning rates for each method on a part of the training reviews, never on test rows.

Each trial trains one adapter of suites/methods.toml for one epoch on some of the training split's reviews and records
the loss on others. Each trial is kept in benchmarks/tuned.json when it ends; the same command resumes from there. The
suite's learning rates are chosen from this file by hand: a trial is short, and one step of the grid is wide.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import provenance
from harness.errors import TrainingError
from harness.evaluation.inputs import Workspace, gather
from harness.progress import silent
from harness.suite.load import load
from harness.suite.schema import EarlyStopping
from harness.training import card, plan
from harness.training.plan import TrainingJob
from harness.training.train import train

SUITE = Path(__file__).parents[1] / "suites" / "methods.toml"
TUNED = Path(__file__).with_name("tuned.json")
RATES: dict[str, tuple[float, ...]] = {
    "lora": (1e-3, 3e-3, 1e-2),
    "pissa": (1e-3, 3e-3, 1e-2),
    "head": (1e-2, 3e-2, 1e-1),
    "bitfit": (1e-3, 3e-3, 1e-2),
    "ia3": (1e-2, 3e-2, 1e-1),
    "prompt": (1e-2, 3e-2, 1e-1),
    "prefix": (3e-3, 1e-2, 3e-2),
    "p-tuning": (1e-3, 3e-3, 1e-2),
    "vera": (3e-3, 1e-2, 3e-2),
    "oft": (1e-3, 3e-3, 1e-2),
    "fourierft": (1e-2, 3e-2, 1e-1),
    "lokr": (3e-3, 1e-2, 3e-2),
    "loha": (3e-3, 1e-2, 3e-2),
    "boft": (1e-3, 3e-3, 1e-2),
    "ln": (1e-3, 3e-3, 1e-2),
    "olora": (1e-3, 3e-3, 1e-2),
    "rslora": (3e-4, 1e-3, 3e-3),
    "dora": (1e-3, 3e-3, 1e-2),
    "full": (3e-5, 1e-4, 3e-4),
}
"""Learning rates to try, by adapter. AdaLoRA is not among them: its schedule of ranks is made for a whole training."""
MOST_TRIALS = 6
"""Largest number of trials of a method. If the best rate is at an end of the grid, the next one beyond is tried too."""
SHARE_OF_REVIEWS = 1 / 3
HELD_OUT = EarlyStopping(share=0.4, patience=1)
"""Part of these reviews on which the loss is measured."""
EPOCHS = 1
BATCH_SIZE = 8
"""A quarter of the suite's: so few rows would make too few steps otherwise, and too high a rate look good."""
SEED = 0
"""Seed of the choice of reviews."""


def main() -> None:
    """Run the trials that are not in the file yet, and print each."""
    with tempfile.TemporaryDirectory() as folder:
        done = json.loads(TUNED.read_text(encoding="utf-8")) if TUNED.is_file() else {"trials": {}}
        jobs = {job.adapter.id: job for job in _jobs(Path(folder))}
        for adapter_id in RATES:
            trials = done["trials"].setdefault(adapter_id, [])
            while (rate := _next_rate(adapter_id, trials)) is not None:
                trials.append(_trial(jobs[adapter_id], rate, Path(folder)))
                print(adapter_id, trials[-1], flush=True)
                done["how"] = _how(jobs[adapter_id])
                TUNED.write_text(json.dumps(done, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _next_rate(adapter_id: str, trials: list[dict[str, Any]]) -> float | None:
    """The next rate of the grid, or a step past its end while the best is at an end; None if the best is within."""
    tried = {trial["learning_rate"] for trial in trials}
    for rate in RATES[adapter_id]:
        if rate not in tried:
            return rate
    learned = [trial for trial in trials if trial["loss"] is not None]
    if not learned or len(trials) >= MOST_TRIALS:
        return None
    best = min(learned, key=lambda trial: float(trial["loss"]))["learning_rate"]
    if best == max(tried):
        return _step(best, up=True)
    return _step(best, up=False) if best == min(tried) else None


def _step(rate: float, *, up: bool) -> float:
    """The neighbour on the grid of 1 and 3 times powers of ten."""
    first = f"{rate:e}".startswith("1")
    factor = (3 if first else 10 / 3) if up else (3 / 10 if first else 1 / 3)
    return float(f"{rate * factor:.0e}")


def _jobs(folder: Path) -> list[TrainingJob]:
    """The suite's trainings, on part of the reviews."""
    declared, workspace = load(SUITE), Workspace(SUITE, Path("runs/harness.duckdb"))
    materials = gather(declared, workspace)
    (name,) = {adapter.train.split for adapter in declared.adapter}
    split = materials.splits[name]
    reviews = sorted({str(example.cluster) for example in split.examples})
    drawn = np.random.default_rng(SEED).permutation(len(reviews))[: round(SHARE_OF_REVIEWS * len(reviews))]
    chosen = {reviews[i] for i in drawn}
    part = replace(split, examples=tuple(one for one in split.examples if one.cluster in chosen))
    return plan.jobs(declared, {**materials.splits, name: part}, materials.bases, folder)


def _trial(job: TrainingJob, rate: float, folder: Path) -> dict[str, Any]:
    """Train once; return the loss on the held-out reviews, or None and the reason why training was refused."""
    how = job.adapter.train.model_copy(
        update={"learning_rate": rate, "epochs": EPOCHS, "batch_size": BATCH_SIZE, "early_stopping": HELD_OUT}
    )
    adapter = job.adapter.model_copy(update={"train": how})
    place = folder / f"{adapter.id}-{rate}"
    try:
        record = card.read(train(replace(job, adapter=adapter, key=str(place), folder=place), silent))
    except TrainingError as problem:
        return {"learning_rate": rate, "loss": None, "error": str(problem)}
    return {"learning_rate": rate, "loss": round(record.card["held_out"]["loss"][-1][1], 4)}


def _how(job: TrainingJob) -> dict[str, Any]:
    """Description of a trial, for readers of the file."""
    return {
        "split": job.split.split_id,
        "reviews_share": round(SHARE_OF_REVIEWS, 3),
        "rows": len(job.split.examples),
        "held_out_share": HELD_OUT.share,
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "chosen_by": "loss on the held-out reviews",
        "processor": provenance.hardware()["processor"],
    }


if __name__ == "__main__":
    main()
