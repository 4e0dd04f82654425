"""One target of `fuzz.py`, with inputs guided by branch coverage of our code: `nox -s fuzz -- --guided`.

    python benchmarks/guided.py "rows csv" --seconds 60

Atheris instruments our modules while they are imported, and its `Fuzz` never returns, so each target needs its own
process. A bug ends it with a traceback, a non-zero exit code, and the input in the folder that is printed first.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["harness", "tomllib", "json", "csv"]):
    from fuzz import targets

    from harness.errors import HarnessError

LARGEST_INPUT_BYTES, LONGEST_SECONDS, MOST_MEBIBYTES = 20_000, 60, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    parse, samples = targets(folder)[given.target]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(samples):
        (corpus / str(number)).write_bytes(sample)

    def one(given_bytes: bytes) -> None:
        try:
            parse(folder, given_bytes)
        except HarnessError:
            return

    print(f"{given.target}: inputs in {folder}", flush=True)
    limits = {
        "max_total_time": given.seconds,
        "seed": given.seed % 2**31,
        "max_len": LARGEST_INPUT_BYTES,
        "timeout": LONGEST_SECONDS,
        "rss_limit_mb": MOST_MEBIBYTES,
        "artifact_prefix": f"{folder}/",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{name}={value}" for name, value in limits.items())], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
