"""From the section [change] of a study to the change, its data, and what judges the edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from gifcore import data as datasets
from gifcore.change import (
    AddSamples,
    Change,
    Relabel,
    RemoveClass,
    RemoveSamples,
    Reweight,
    Union,
)
from gifcore.change_section import (
    AddSamplesSection,
    BackdoorSection,
    RelabelSection,
    RemoveClassSection,
    RemoveSamplesSection,
    ReweightSection,
    UnionSection,
)
from gifcore.data.backdoor import triggered
from gifcore.data.dataset import Data, Split
from gifcore.errors import GifError
from gifcore.evaluate import (
    BackdoorJudge,
    ClassJudge,
    Judge,
    Predictions,
    SamplesJudge,
    touched,
)
from gifcore.problem import Problem
from gifcore.study import Study

SPLITS = ("validation", "test")


@dataclass(frozen=True, eq=False)
class Asked:
    """A change with the data it is said of: with a backdoor or wrong labels, if there are some."""

    data: Data
    change: Change


def asked(study: Study, data: Data) -> Asked:
    """Return the study's change; a backdoor is planted in a copy of the training split first.

    So are wrong labels, if the study has some.

    Raises:
        GifError: a backdoor, wrong labels or samples to add that cannot be.
    """
    section, noise = study.change, study.mislabel.noise
    if noise is not None:
        data = noise.plant(data)[0]
    if isinstance(section, BackdoorSection):
        planted, poisoned = section.backdoor.plant(data)
        return Asked(planted, poisoned.repair())
    return Asked(data, _change(section, study.seed))


def _change(section: Any, seed: int) -> Change:
    match section:
        case RemoveClassSection():
            return RemoveClass(section.label)
        case RemoveSamplesSection():
            return RemoveSamples(section.indices)
        case RelabelSection():
            return Relabel(section.indices, section.labels)
        case ReweightSection():
            return Reweight(section.indices, section.weights)
        case AddSamplesSection():
            return AddSamples(as_tensors(_added(section, seed)))
        case UnionSection():
            return Union([_change(one, seed) for one in section.changes])
        case _:
            raise GifError(f"A change of kind {section.kind} cannot be one of several.")


def _added(section: AddSamplesSection, seed: int) -> Split:
    """Return the samples to add: those listed, a seeded draw without replacement, or all."""
    split = datasets.load(section.source).split(section.split)
    n, where = len(split), f"the {section.split} split of {section.source}"
    if section.indices is not None:
        if max(section.indices) >= n:
            raise GifError(
                f"change.indices: there is no sample {max(section.indices)} in {where}; "
                f"0 … {n - 1} exist."
            )
        chosen = np.array(section.indices)
    elif section.count is not None:
        if section.count > n:
            raise GifError(
                f"change.count: {where} has {n} samples, {section.count} cannot be drawn; choose "
                "fewer."
            )
        chosen = np.sort(np.random.default_rng(seed).permutation(n)[: section.count])
    else:
        chosen = np.arange(n)
    return Split(split.x[chosen], split.y[chosen])


def _refuse_unmeasurable(label: int, data: Data) -> None:
    """Refuse an edit whose success no image could show."""
    for name in SPLITS:
        if not (data.split(name).y == label).any() or (data.split(name).y == label).all():
            raise GifError(
                f"The {name} split must hold images of class {label} and of others to measure what "
                "forgetting it does; choose another class, or set edit.enabled = false."
            )


def as_tensors(split: Split) -> TensorDataset:
    """Return a split as (inputs, labels) tensors."""
    return TensorDataset(torch.from_numpy(split.inputs()), torch.from_numpy(split.y))


def judge_of(
    study: Study, asked: Asked, problem: Problem, before: Mapping[str, Predictions]
) -> Judge:
    """Return what judges the edit; `before` is what the unedited model says of each split.

    Raises:
        GifError: no image could judge it.
    """
    section, data = study.change, asked.data
    if isinstance(section, RemoveClassSection):
        if study.edit.enabled:
            _refuse_unmeasurable(section.label, data)
        return ClassJudge(section.label, data.n_classes)
    if isinstance(section, BackdoorSection):
        trigger = section.backdoor.trigger(data)
        bearing = {name: as_tensors(triggered(data.split(name), trigger)) for name in before}
        return BackdoorJudge(section.label, data.n_classes, bearing)
    learn, forget = touched(asked.change, problem)
    unseen = {name: float(p.loss.mean()) for name, p in before.items()}
    return SamplesJudge(data.n_classes, learn, forget, unseen)
