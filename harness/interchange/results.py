"""Stored results of a suite as other forms need them: one entry for each model and split, over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.evaluation.scoring import Job
from harness.records import Evidence, Example, Metric, Outcomes, Run, Split
from harness.stats import estimates, inference, posterior
from harness.suite.load import by_id
from harness.suite.schema import Model, Suite


@dataclass(frozen=True, slots=True)
class Result:
    """The stored runs of one model on one split, verified, and their metrics."""

    suite: Suite
    model: Model
    split: Split
    runs: tuple[Run, ...]
    """One for each seed."""
    outcomes: tuple[Outcomes, ...]
    """In the order of the runs."""
    metrics: tuple[Metric, ...]
    """Means over the seeds, with intervals, in the suite's order."""

    @property
    def examples(self) -> tuple[Example, ...]:
        """The split's examples, in the order of the outcomes."""
        return self.split.examples

    @property
    def digests(self) -> Mapping[str, str]:
        """Digests of everything that the numbers come from."""
        found = {
            "suite_digest": self.suite.digest,
            "split_digest": self.split.digest,
            "configuration": self.runs[0].configuration,
            "run_keys": " ".join(run.run_key for run in self.runs),
        }
        base = self.runs[0].spec.get("base")
        adapters = " ".join(run.adapter_digest for run in self.runs if run.adapter_digest)
        return found | ({"base_digest": base} if base else {}) | ({"adapter_digests": adapters} if adapters else {})

    def method_of(self, metric: Metric) -> tuple[str, int | None]:
        """The method of a metric's interval, and the number of its draws; None where nothing is drawn."""
        seeds = self.outcomes
        if estimates.is_exact(metric.name, seeds):
            return "Wilson score interval", None
        if posterior.applies(metric.name, seeds):
            return "posterior of the confusion table", inference.RESAMPLES
        drawn = "examples" if seeds[0].clusters is None else "clusters of examples"
        over = f"{drawn} and seeds, widened as Student's t" if len(seeds) > 1 else drawn
        return f"percentile bootstrap over {over}", inference.RESAMPLES


def of(suite: Suite, jobs: Sequence[Job], evidence: Evidence) -> list[Result]:
    """The results of a plan, in its order, without those that are missing."""
    splits = {job.split.split_id: job.split for job in jobs}
    found = []
    for model_id, split_id in dict.fromkeys((job.model.id, job.split.split_id) for job in jobs):
        outcomes = evidence.outcomes.get((model_id, split_id))
        if outcomes is None:
            continue
        runs = evidence.runs[model_id, split_id]
        keys = [run.run_key for run in runs]
        names = [spec.name for spec in suite.metric]
        metrics = tuple(estimates.summaries(names, outcomes, estimates.generator_for(keys)).values())
        found.append(Result(suite, by_id(suite.model, model_id), splits[split_id], runs, outcomes, metrics))
    return found
