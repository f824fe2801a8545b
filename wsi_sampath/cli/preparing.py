"""How ``wsi-prepare`` writes a folder, and what it tells of it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsi_sampath.data.patch_plan import PatchPlan


def write_plan(
    plan: PatchPlan, hint: str = "", test_cases: str = "", *, unit: str = "case"
) -> None:
    """Write all patches of a plan, and tell what became of them.

    Parameters
    ----------
    plan
        What to write.
    hint
        Added where a split stays empty.
    test_cases
        The regular expression that named the test split, if any.
    unit
        What the splits are made of.
    """
    from wsi_sampath.data.prepare import prepare, unseen_classes
    from wsi_sampath.progress import counted

    told: dict[str, list[str]] = {}

    def tell(image: Path, note: str) -> None:
        if image.name not in told.setdefault(note, []):
            told[note].append(image.name)

    for _ in counted(prepare(plan, tell), plan.out.name, len(plan.sources)):
        pass
    for note, images in told.items():
        warn(f"{_few(images)}: {note}")
    unseen = unseen_classes(plan)
    if unseen:
        warn(
            f"no pixel of any mask is {' or '.join(unseen)}: do the masks hold what --classes says?"
        )
    _tell_splits(plan, hint, test_cases, unit)


def _few(names: list[str]) -> str:
    """Return the first of some images, and how many more there are."""
    from wsi_sampath.shown import plural

    more = len(names) - 1
    return names[0] if not more else f"{names[0]} and {plural(more, 'more image')}"


def _tell_splits(plan: PatchPlan, hint: str, test_cases: str, unit: str) -> None:
    from wsi_sampath.shown import plural

    found = Counter(patch.split for patch in plan.patches)
    cases = len({patch.case for patch in plan.patches})
    left = len({patch.case for patch in plan.patches if patch.split != "test"})
    all_cases = plural(cases, unit)
    why = f"there {'is' if cases == 1 else 'are'} only {all_cases}{hint}"
    if test_cases or not left:
        why = f"the test split has {cases - left} of {all_cases}"
    for name in ("train", "validation", "test"):
        if not found[name]:
            warn(f"the {name} split is empty: {why}")
    counts = ", ".join(f"{found[name]} {name}" for name in ("train", "validation", "test"))
    names = ", ".join(one.name for one in plan.grouping.plain_classes)
    patches = plural(len(plan.patches), "patch", "patches")
    print(f"{plan.out}: {patches} of {all_cases}: {counts}; classes: {names}")


def note(message: str) -> None:
    """Tell the user something in advance."""
    print(f"note: {message}", file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Tell the user what may be wrong."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
