"""A record: the folder a finished study leaves behind, written whole or not at all.

    study.toml           the study, re-runnable as it is
    record.json          what was computed, from what, at what cost, how far to trust it;
                         written last: a folder without it is not a result
    scores.parquet       query, method, train_index, influence [nats], rank (0 = most helpful);
                         one row group per query and method; query -1, -2, … are groups
    self_influence.parquet  method, train_index, value [nats]; one row group per method (optional)
    mislabel.parquet     train_index, given, true, predicted, suggested, p_given, contradicted, and
                         one column a score (optional)
    samples.parquet      split, index, label, method, step, predicted, p_label, loss [nats]
    updates.safetensors  "<method>.delta" (k,) and "<method>.indices" (k,); without indices: all p
    curves.parquet       method, curve, query, x, value
    thumbnails.npz       images of queries and top-ranked training samples (optional)
    units.parquet        layer, unit, place, train_index, activation: what excites a unit (optional)
    train.parquet        train_index, method, step, predicted, p_label, loss [nats] of all training
                         samples, before ("", "") and after each searched step (optional); one row
                         group per method and step
    recall.parquet       method, way, predictions, criterion, m, k, queries, kept, found, control
    speed.parquet        method, way, k, query, spearman, four recalls, cosine, error
    sketch.npz           approximate rankings of every test image (optional); see `preview`

Nothing here imports torch: the dashboard draws records with this module.
"""

from __future__ import annotations

from gifcore.record.files import (
    BEFORE,
    CURVES,
    DEFERRED,
    INDEX,
    LOSS,
    MISLABEL,
    NATURAL,
    RECALL,
    RECORD,
    RETRAINED,
    SAMPLES,
    SCHEMA,
    SCORES,
    SEARCHED,
    SELF_INFLUENCE,
    SKETCH,
    SPEED,
    STUDY,
    THUMBNAILS,
    TRAIN,
    UNITS,
    UPDATES,
    Content,
    RecordError,
    sha256,
)
from gifcore.record.reading import (
    Record,
    curve_query,
    foreign,
    products,
)
from gifcore.record.workspace import (
    Listed,
    addition_folder,
    additions,
    discard,
    empty_trash,
    list_workspace,
    look_at,
    restore,
)
from gifcore.record.writing import (
    listing,
    parquet_bytes,
    write_atomically,
    write_json,
    write_parquet,
    write_record,
)

__all__ = [
    "BEFORE",
    "CURVES",
    "Content",
    "DEFERRED",
    "INDEX",
    "LOSS",
    "Listed",
    "MISLABEL",
    "NATURAL",
    "RECALL",
    "RECORD",
    "RETRAINED",
    "Record",
    "RecordError",
    "SAMPLES",
    "SCHEMA",
    "SCORES",
    "SEARCHED",
    "SELF_INFLUENCE",
    "SKETCH",
    "SPEED",
    "STUDY",
    "THUMBNAILS",
    "TRAIN",
    "UNITS",
    "UPDATES",
    "addition_folder",
    "additions",
    "curve_query",
    "discard",
    "empty_trash",
    "foreign",
    "list_workspace",
    "look_at",
    "listing",
    "parquet_bytes",
    "products",
    "restore",
    "sha256",
    "write_atomically",
    "write_json",
    "write_parquet",
    "write_record",
]
