"""Run as a process: go through hostile bases, adapters and suites, and report every file and address that was opened.

Python's own audit events see what Python opens. What libraries open by themselves goes through functions that are
wrapped here before anything imports them.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(sys.argv[1]).resolve()
opened: set[str] = set()
reached: list[str] = []


def see(path: Any) -> None:
    if isinstance(path, str | bytes | os.PathLike):
        real = os.path.realpath(os.fsdecode(path))
        if real.startswith(str(ROOT)) and not os.path.isdir(real):  # noqa: PTH112 (called for every file that is opened)
            opened.add(real)


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        see(args[0])
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.exec"):
        reached.append(f"{event} {args!r}")


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    def inner(path: Any, *args: Any, **keywords: Any) -> Any:
        see(path)
        return function(path, *args, **keywords)

    return inner


def refuse_to_unpickle(*args: Any, **keywords: Any) -> Any:
    reached.append(f"torch.load {args!r}")
    raise RuntimeError("nothing is unpickled here")


def main() -> None:
    import safetensors
    import torch

    safetensors.safe_open = watched(safetensors.safe_open)  # type: ignore[misc,assignment]
    torch.load = refuse_to_unpickle
    import transformers  # noqa: F401 (before the hook: its own files are many)

    from harness.errors import HarnessError
    from harness.models import bases
    from harness.models.encoding import trial
    from harness.models.peft import prove_loaded, with_adapter
    from harness.models.transformer import untrained
    from harness.suite.load import load
    from harness.suite.schema import PathBase

    pins: dict[str, str] = json.loads((ROOT / "pins.json").read_text())
    here = ROOT / "suites"

    def load_base(name: str) -> bases.ResolvedBase:
        declared = PathBase(id="b", source="path", path=name, sha256=pins[name])
        found = bases.resolve(declared, here, ROOT / "cache")
        trial(found.folder, untrained(found.folder, seed=0))
        return found

    good = load_base("base")
    sys.addaudithook(hook)
    outcomes: dict[str, str | None] = {}

    def attempt(name: str, use: Callable[[], Any]) -> None:
        try:
            use()
            outcomes[name] = None
        except HarnessError as problem:
            outcomes[name] = str(problem)

    def load_adapter(name: str) -> None:
        prove_loaded(with_adapter(good.folder, here / name), here / name, good.folder)

    for folder in sorted(here.iterdir()):
        if folder.name.startswith("base"):
            attempt(folder.name, lambda name=folder.name: load_base(name))  # type: ignore[misc]
        elif folder.name.startswith("adapter"):
            attempt(folder.name, lambda name=folder.name: load_adapter(name))  # type: ignore[misc]
        else:
            attempt(folder.name, lambda path=folder: load(path))  # type: ignore[misc]
    sys.stdout.write(json.dumps({"outcomes": outcomes, "opened": sorted(opened), "reached": reached}))


if __name__ == "__main__":
    main()
