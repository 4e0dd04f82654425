"""A configuration made, loaded and cited again: commands, a program, a reference; as finished text."""

from collections.abc import Sequence

from harness.records import AdapterRecord
from harness.suite.schema import Suite
from leaderboard.board.records import Entry
from leaderboard.pages import formats


def commands(entries: Sequence[Entry]) -> str:
    """The calls that train, score and judge a model again, on the commit of its runs where they have a single one.

    Args:
        entries: of the model, on every split.
    """
    model_id = entries[0].model_id
    runs = [scored.run for entry in entries for scored in entry.runs]
    commits = {run.git_commit for run in runs if run.git_commit is not None}
    dirty = "  # with changes that are not in this commit" if any(run.git_dirty for run in runs) else ""
    checkout = [f"git checkout {commits.pop()}{dirty}"] if len(commits) == 1 else []
    return "\n".join(
        [
            *checkout,
            f"harness evaluate SUITE --model {model_id} --fresh",
            "harness gate SUITE",
            "harness site SUITE --check",
        ]
    )


def loading(entries: Sequence[Entry]) -> str:
    """A program that loads the first seed's weights with transformers and PEFT alone; empty where there are none."""
    record = next((record for entry in entries for record in entry.adapters), None)
    backend, base_id = entries[0].backend, entries[0].base_id
    tokenizer = f'tokenizer = AutoTokenizer.from_pretrained("BASE")  # {base_id}\n'
    if backend == "checkpoint" and any(entry.runs for entry in entries):
        return (
            "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n"
            'model = AutoModelForSequenceClassification.from_pretrained("BASE").eval()\n' + tokenizer
        )
    if record is None or backend not in ("peft", "prompt", "transformer"):
        return ""
    if record.method == "full":
        return (
            "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n"
            f'model = AutoModelForSequenceClassification.from_pretrained("{_folder(record)}").eval()\n' + tokenizer
        )
    is_asked = backend == "prompt"
    kind, head = ("AutoModelForCausalLM", "") if is_asked else ("AutoModelForSequenceClassification", ", num_labels=2")
    return (
        "from peft import PeftModel\n"
        f"from transformers import {kind}, AutoTokenizer\n"
        f'base = {kind}.from_pretrained("BASE"{head})  # {base_id}\n'
        f'model = PeftModel.from_pretrained(base, "{_folder(record)}").eval()\n'
        'tokenizer = AutoTokenizer.from_pretrained("BASE")\n'
    )


def _folder(record: AdapterRecord) -> str:
    """The folder of weights that were trained here, beside the store; of others a name to fill in."""
    key = record.card.get("train_key")
    return f"runs/adapters/{record.adapter_id}/seed-{record.seed}-{key[:16]}" if isinstance(key, str) else "ADAPTER"


def citation(suite: Suite, suite_digest: str, entry: Entry) -> str:
    """BibTeX that names score, data and digests; empty without runs."""
    if entry.primary is None or not entry.runs:
        return ""
    run = max((scored.run for scored in entry.runs), key=lambda one: one.finished_at)
    score = f"{formats.score(entry.primary.value)} {formats.interval(entry.primary.ci_low, entry.primary.ci_high)}"
    name = formats.metric_phrase(entry.primary.name)
    return (
        f"@misc{{{suite.name}-{entry.model_id},\n"
        f"  title = {{{entry.model_id} on {entry.split_id}: {name} {score.strip()}, n {entry.primary.n}}},\n"
        f"  year = {{{run.finished_at:%Y}}},\n"
        f"  note = {{suite {suite.name}, digest {suite_digest[:16]}; split digest {run.split_digest[:16]}; "
        f"{len(entry.runs)} runs, the last on {run.finished_at:%Y-%m-%d}}}\n}}\n"
    )
