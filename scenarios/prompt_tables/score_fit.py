"""Predicted scores learned from the texts of prompts, out of sample.

By cross-fitting: the prompts are split into folds at random, and each fold is predicted by models that were fitted to
the other folds, so that no prediction has seen its own outcome.  Text becomes TF-IDF of words and pairs of words; a
logistic regression per model predicts a 0/1 outcome, a ridge regression any other score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latency_models.errors import InputError, check_count, invalid
from scenarios.prompt_tables.layouts import ScoreFile
from sim.prompt_table import Floats, PromptTable

_MOST_TERMS = 50_000
_REGULARISATION = 1.0
"""Inverse strength C of the logistic regression, on rows of length 1; ridge uses 1 / C."""


def fit_scores(
    source: ScoreFile,
    texts: tuple[str, ...],
    *,
    folds: int = 5,
    seed: int = 1,
    report: Callable[[], None] | None = None,
) -> PromptTable:
    """Learn to predict the outcomes from the texts.

    Parameters
    ----------
    source : ScoreFile
        Outcomes, and whatever else the new table keeps.
    texts : tuple of str, length N
        The prompts.
    folds, seed : int
        Number of folds, at least 2, and of which random numbers they are made.
    report : callable, optional
        Called after each model of each fold.

    Returns
    -------
    PromptTable
        With predictions, in the order of ``source``.

    Raises
    ------
    InputError
        There are no outcomes, too few prompts, no words, or scikit-learn is not installed.
    """
    if source.outcomes is None:
        raise InputError("the table has no outcomes; allowed: outcomes of every prompt, to learn from")
    if check_count("folds", folds, minimum=2) > len(texts):
        raise invalid("folds", folds, f"2 to {len(texts)}, the number of prompts")
    vectorizer, logistic, ridge = _scikit_learn()
    part = np.random.default_rng(seed).permutation(len(texts)) % folds
    predicted = np.empty_like(source.outcomes)
    for fold in range(folds):
        train, test = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
        terms = vectorizer()
        try:
            features = terms.fit_transform([texts[row] for row in train])
        except ValueError as error:
            raise InputError(f"the texts cannot be learned from: {error}") from None
        unseen = terms.transform([texts[row] for row in test])
        for column in range(len(source.models)):
            outcome = source.outcomes[train, column]
            predicted[test, column] = _predict(features, outcome, unseen, logistic, ridge)
            if report is not None:
                report()
    return PromptTable(
        models=source.models,
        predicted=predicted,
        outcomes=source.outcomes,
        output_tokens=source.output_tokens,
        prompt_ids=source.prompt_ids,
    )


def _predict(features: Any, outcome: Floats, unseen: Any, logistic: Any, ridge: Any) -> Floats:
    if outcome.min() == outcome.max():
        return np.full(unseen.shape[0], float(outcome[0]))
    if np.isin(outcome, (0.0, 1.0)).all():
        model = logistic().fit(features, outcome.astype(int))
        return np.asarray(model.predict_proba(unseen)[:, 1], dtype=np.float64)
    return np.clip(np.asarray(ridge().fit(features, outcome).predict(unseen), dtype=np.float64), 0.0, 1.0)


def _scikit_learn() -> tuple[Any, Any, Any]:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression, Ridge
    except ImportError:
        raise InputError("scores fit needs scikit-learn; install `routerwise[router]`") from None
    return (
        lambda: TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, max_features=_MOST_TERMS),
        lambda: LogisticRegression(C=_REGULARISATION, solver="liblinear"),
        lambda: Ridge(alpha=1.0 / _REGULARISATION),
    )
