"""Step runner: what is finished is skipped, what was interrupted is done again.

Every step has a hash of its settings and of the hashes of the steps it reads from. A step works in
a folder of its own; when it is done its outputs are moved into the data set and the hash is written
to `talker.json`. A step whose hash is there, and whose outputs are, is finished. Killing the
process at any time leaves at most one step to be done again, and nothing half-written in its place.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaussiantalker_ns.dataparsers.dataset_layout import TALKER_SCHEMA, DatasetLayout
from gaussiantalker_ns.timebase import FPS

WORK_FOLDER = ".process"
"""Folder inside the data set for what is not finished."""

Facts = dict[str, Any]
"""What a step adds to `talker.json`, by top-level key."""


@dataclass(frozen=True)
class Step:
    """One step of the preparation of a data set."""

    name: str
    """What `--only` calls it."""
    outputs: tuple[str, ...]
    """Files and folders, relative to the data set, that the step makes."""
    requires: tuple[str, ...]
    """Names of the steps whose outputs it reads."""
    settings: dict[str, Any]
    """Everything else that its outputs depend on; must be representable as JSON."""
    run: Callable[[DatasetLayout, DatasetLayout], Facts] = field(repr=False)
    """Does the work: reads from the first data set, writes into the second, returns the facts."""


def read_talker(dataset: DatasetLayout) -> dict[str, Any]:
    """Read `talker.json`, or make an empty one for a new data set.

    Raises:
        ValueError: if the file is damaged or of another version.
    """
    if not dataset.talker.exists():
        return {"schema": TALKER_SCHEMA, "fps": FPS, "steps": {}}
    try:
        talker = json.loads(dataset.talker.read_bytes())
        schema = talker["schema"]
        if not all("hash" in record for record in talker.setdefault("steps", {}).values()):
            raise KeyError("hash")
    # ValueError: also what is no text; the others: other values than this program writes.
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{dataset.talker} is damaged ({error}); expected the description that `gaussiantalker "
            "process` writes. Copy it again, or process the video into an empty folder."
        ) from error
    if schema != TALKER_SCHEMA:
        raise ValueError(
            f"{dataset.talker} has schema {schema}; this version reads schema {TALKER_SCHEMA}. "
            "Process the video again into an empty folder."
        )
    return talker


def write_talker(dataset: DatasetLayout, talker: dict[str, Any]) -> None:
    """Write `talker.json` completely or not at all."""
    partial = dataset.talker.with_name(dataset.talker.name + ".part")
    partial.write_text(json.dumps(talker, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, dataset.talker)


def remove(path: Path) -> None:
    """Delete a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class StepRunner:
    """Runs steps into one data set, each at most once."""

    def __init__(self, root: Path, steps: Sequence[Step]) -> None:
        self.dataset = DatasetLayout(root)
        self.steps = {step.name: step for step in steps}
        self.work = root / WORK_FOLDER

    def step_hash(self, step: Step) -> str:
        """Hash of the settings of a step and of the finished steps before it."""
        recorded = read_talker(self.dataset)["steps"]
        before = [recorded.get(name, {}).get("hash") for name in step.requires]
        text = json.dumps([step.name, step.settings, before], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def outputs_exist(self, step: Step) -> bool:
        """Whether everything the step makes is there."""
        return all((self.dataset.root / name).exists() for name in step.outputs)

    def is_finished(self, step: Step) -> bool:
        """Whether the step was done with just these settings."""
        record = read_talker(self.dataset)["steps"].get(step.name)
        return (
            record is not None
            and record["hash"] == self.step_hash(step)
            and self.outputs_exist(step)
        )

    def run(self, step: Step) -> None:
        """Do a step, replacing what it made before; the steps that read from it count as undone."""
        work = self.work / step.name
        remove(work)
        work.mkdir(parents=True)
        step_hash = self.step_hash(step)
        facts = step.run(self.dataset, DatasetLayout(work))
        self._forget(self.dependents(step.name))
        for name in step.outputs:
            made, place = work / name, self.dataset.root / name
            if place.is_dir():
                os.replace(place, work / f"old-{name}")
            os.replace(made, place)
        talker = read_talker(self.dataset)
        talker.update(facts)
        talker["steps"][step.name] = {"hash": step_hash, "settings": step.settings}
        write_talker(self.dataset, talker)
        remove(work)

    def dependents(self, name: str) -> set[str]:
        """A step and all that read from it, directly or not."""
        found = {name}
        for step in self.steps.values():
            if found & set(step.requires):
                found.add(step.name)
        return found

    def _forget(self, names: set[str]) -> None:
        """Forget that steps were done, before outputs are touched."""
        talker = read_talker(self.dataset)
        kept = {name: record for name, record in talker["steps"].items() if name not in names}
        if len(kept) < len(talker["steps"]):
            write_talker(self.dataset, {**talker, "steps": kept})

    def run_all(self, overwrite: bool, skipped: Callable[[str], None]) -> None:
        """Do every step that is not finished.

        Args:
            overwrite: Whether finished steps are done again, too.
            skipped: Called with the name of each step that was finished.
        """
        for step in self.steps.values():
            if not overwrite and self.is_finished(step):
                skipped(step.name)
            else:
                self.run(step)
        self.clean()

    def run_only(self, name: str) -> None:
        """Do one step again, with what the steps before it made.

        Raises:
            ValueError: if a step before it is not finished.
        """
        step = self.steps[name]
        recorded = read_talker(self.dataset)["steps"]
        for before in step.requires:
            if before not in recorded or not self.outputs_exist(self.steps[before]):
                raise ValueError(
                    f"--only {name} needs the finished step '{before}', which {self.dataset.root} "
                    "lacks. Run `gaussiantalker process` without --only first."
                )
        self.run(step)
        self.clean()

    def clean(self) -> None:
        """Remove what interrupted runs left."""
        remove(self.work)
