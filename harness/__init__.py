"""Test-first evaluation of sentiment classifiers and their lightweight (PEFT) adapters.

    import harness

    project = harness.open("suites/quickstart.toml")
    report = harness.evaluate(project, models=["tfidf"])
    harness.judge(project).passed
    harness.results(project)

Importing this package imports nothing but itself: the functions, their records and the errors are loaded when they are
first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import (
        Project,
        Site,
        baselines,
        board,
        check_site,
        check_variants,
        clear_store,
        compare,
        curves,
        evaluate,
        evidence,
        examine_data,
        export_results,
        export_runs,
        import_answers,
        import_runs,
        judge,
        open,
        plan,
        power,
        predictions,
        render,
        results,
        set_baseline,
        train,
        verify_store,
    )
    from harness.errors import (
        AdapterError,
        DataError,
        FetchError,
        HarnessError,
        LeakError,
        RunError,
        StoreError,
        SuiteError,
        UsageError,
    )

__all__ = [
    "AdapterError",
    "DataError",
    "FetchError",
    "HarnessError",
    "LeakError",
    "Project",
    "RunError",
    "Site",
    "StoreError",
    "SuiteError",
    "UsageError",
    "baselines",
    "board",
    "check_site",
    "check_variants",
    "clear_store",
    "compare",
    "curves",
    "evaluate",
    "evidence",
    "examine_data",
    "export_results",
    "export_runs",
    "import_answers",
    "import_runs",
    "judge",
    "open",
    "plan",
    "power",
    "predictions",
    "render",
    "results",
    "set_baseline",
    "train",
    "verify_store",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("adapter-harness")
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module("harness.errors" if name.endswith("Error") else "harness.api"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
