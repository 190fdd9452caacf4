"""An evaluation that continues after an interruption: the scores of each batch are stored as soon as they are there."""

import json
from dataclasses import replace
from typing import Any

from torch import Tensor

from aloe_lightning.evaluation.batch_scorer import BatchScorer, BatchScores, EvaluationSet
from aloe_lightning.evaluation.ensemble import EnsembleKey
from aloe_lightning.evaluation.examples import Examples, Furthest
from aloe_lightning.evaluation.scores import ScoreKey
from aloe_lightning.storage.batches import Arrays, BatchStore, digest_of_batch

INDICES = "indices"


def scored_once(
    scorer: BatchScorer, dataset: EvaluationSet, store: BatchStore, furthest: Furthest, indices: Tensor
) -> BatchScores:
    """Score the images at these indices (n,), or read their scores if the store has them for the same images.

    Of the examples only those are stored and returned that are among the furthest so far.
    """
    labels = None if dataset.labels is None else dataset.labels[indices]
    digest = digest_of_batch(dataset.images.take(indices), labels)
    place, position = f"{dataset.name}/{digest:016x}", int(indices[0])
    stored = store.read(place, position, digest)
    scores = scorer(dataset, indices) if stored is None else _from_arrays(stored)
    scores = replace(scores, examples=furthest.entering(dataset.membership, scores.examples))
    if stored is None:
        store.write(place, position, digest, _to_arrays(scores))
    return scores


def _to_arrays(scores: BatchScores) -> Arrays:
    """Name each array by the kind and the parts of its key, as JSON."""
    return {
        INDICES: scores.indices,
        **{json.dumps(["scores", *key]): values for key, values in scores.scores.items()},
        **{json.dumps(["correct", condition]): values for condition, values in scores.correct.items()},
        **{json.dumps(["ensemble", *key]): values for key, values in scores.ensemble.items()},
        **{
            json.dumps(["examples", detector, name]): values
            for detector, examples in scores.examples.items()
            for name, values in examples.arrays().items()
        },
    }


def _from_arrays(arrays: Arrays) -> BatchScores:
    result = BatchScores(arrays[INDICES], {}, {}, {})
    examples: dict[str, dict[str, Any]] = {}
    for name, values in arrays.items():
        if name == INDICES:
            continue
        kind, *key = json.loads(name)
        if kind == "scores":
            result.scores[ScoreKey(*key)] = values
        elif kind == "correct":
            result.correct[key[0]] = values
        elif kind == "examples":
            examples.setdefault(key[0], {})[key[1]] = values
        else:
            result.ensemble[EnsembleKey(*key)] = values
    return replace(result, examples={detector: Examples(**parts) for detector, parts in examples.items()})
