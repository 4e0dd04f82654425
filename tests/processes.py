"""Commands in a process of their own, several in one, since the imports of each take seconds."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DRIVER = """if True:
    import json, sys
    from harness.cli import main
    codes = []
    for words in json.loads(sys.argv[1]):
        sys.argv = ["harness", *words]
        try:
            main()
        except SystemExit as end:
            codes.append(end.code)
    print()
    print(json.dumps(codes))
"""


@dataclass(frozen=True)
class Done:
    """Exit codes of commands, and all that they printed."""

    codes: list[int]
    out: bytes
    err: bytes


def run(commands: Sequence[Sequence[object]], environment: Mapping[str, str]) -> Done:
    """Run `harness` with each of these words, one after the other, in one new process; it must not crash."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    command = [sys.executable, "-c", DRIVER, words]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    out, _, codes = done.stdout.rstrip().rpartition(b"\n")
    return Done(json.loads(codes), out, done.stderr)
