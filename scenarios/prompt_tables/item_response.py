"""The built-in prompt table: prompts, predictions and answers drawn from an item-response model.

Its figures were fitted to MMLU-Pro outcomes of 6251 questions and 15 open-weight models (github.com/TIGER-AI-Lab/
MMLU-Pro, five shots, greedy, Apache-2.0) by :mod:`scenarios.prompt_tables.item_response_fit`, which prints them again.

A prompt has a subject, a difficulty b (standard normal) and a discrimination a (log-normal); model i answers it right
with probability sigmoid(a (theta_i + delta_i,subject - b)).  The router knows the subject, and the difficulty in part:
b is sqrt(r) z + sqrt(1 - r) e, of which it sees z.  It predicts the probability given what it sees, so predictions are
calibrated.  They rank right above wrong answers (AUC 0.67) about as well as predictions that ``routerwise scores fit``
learns from the texts of the same questions do (0.64 to 0.69).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_models.errors import check_count, unknown_name
from sim.prompt_table import Floats, PromptTable
from sim.random_streams import named_generator

LOG_DISCRIMINATION = (0.662, 0.471)
"""Mean and standard deviation of ln a."""
SUBJECTS = 14
SUBJECT_DEVIATION = 0.152
"""Standard deviation, over subjects, of a model's ability."""
RELIABILITY = 0.22
"""Share of the variance of the difficulty that a router sees, r."""
_NODES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringModel:
    """One fitted model: ability, and lengths of its answers, which are log-normal."""

    ability: float
    median_tokens: float
    log_tokens_deviation: float


ANSWERING_MODELS = {
    name: AnsweringModel(ability=ability, median_tokens=median, log_tokens_deviation=deviation)
    for name, ability, median, deviation in (
        ("DeepSeek-Coder-V2", 0.492, 105, 1.34),
        ("Llama-2-7b-hf", -1.242, 44, 0.77),
        ("Llama-2-13b-hf", -0.934, 47, 0.78),
        ("Llama-2-70b-hf", -0.400, 50, 0.72),
        ("Meta-Llama-3_1-8B-Instruct", -0.135, 68, 1.10),
        ("Meta-Llama-3_1-70B-Instruct", 0.524, 62, 0.84),
        ("Mistral-7B-Instruct-v0.1", -0.892, 74, 0.66),
        ("Mistral-7B-Instruct-v0.2", -0.674, 78, 0.64),
        ("Mixtral-8x7B-Instruct-v0.1", -0.194, 65, 0.67),
        ("Phi-3-mini-4k-instruct", -0.184, 74, 0.63),
        ("Qwen1.5-7B-Chat", -0.787, 86, 0.58),
        ("Qwen1.5-72B-Chat", 0.016, 108, 0.58),
        ("Yi-6b-Chat", -0.771, 73, 0.70),
        ("c4ai-command-r-v01", -0.374, 71, 0.59),
        ("mathstral-7B", -0.233, 62, 0.79),
    )
}
"""Models that the built-in table knows.  Most answers were cut at 256 tokens when they were recorded."""


def built_in_table(models: Sequence[str], *, prompts: int = 4000, seed: int = 1) -> PromptTable:
    """Draw a prompt table.

    Parameters
    ----------
    models : sequence of str
        Columns, of :data:`ANSWERING_MODELS`.
    prompts, seed : int
        How many, and of which random numbers.  A model's column does not depend on the other models.

    Raises
    ------
    InputError
        A model is not known, or there are no prompts.
    """
    check_count("prompts", prompts)
    check_count("seed", seed, minimum=0)
    for name in models:
        if name not in ANSWERING_MODELS:
            raise unknown_name("model of the built-in prompt table", name, ANSWERING_MODELS)
    root = np.random.SeedSequence(seed)
    rng = named_generator(root, "prompts")
    seen, unseen = rng.standard_normal(prompts), rng.standard_normal(prompts)
    discrimination = np.exp(LOG_DISCRIMINATION[0] + LOG_DISCRIMINATION[1] * rng.standard_normal(prompts))
    subject = rng.integers(SUBJECTS, size=prompts)
    difficulty = np.sqrt(RELIABILITY) * seen + np.sqrt(1.0 - RELIABILITY) * unseen
    shape = (prompts, len(models))
    predicted, outcomes, tokens = np.empty(shape), np.empty(shape), np.empty(shape)
    for column, name in enumerate(models):
        model = ANSWERING_MODELS[name]
        draw = named_generator(root, f"answers of {name}")
        ability = (model.ability + SUBJECT_DEVIATION * draw.standard_normal(SUBJECTS))[subject]
        outcomes[:, column] = draw.random(prompts) < _sigmoid(discrimination * (ability - difficulty))
        tokens[:, column] = np.maximum(
            1.0, np.rint(model.median_tokens * np.exp(model.log_tokens_deviation * draw.standard_normal(prompts)))
        )
        predicted[:, column] = _prediction(ability - np.sqrt(RELIABILITY) * seen)
    return PromptTable(models=tuple(models), predicted=predicted, outcomes=outcomes, output_tokens=tokens)


def _prediction(lead: Floats) -> Floats:
    """Probability of a right answer, given by how much the ability leads the part of the difficulty that is seen."""
    points, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    found = np.zeros_like(lead)
    for log_a, weight_a in zip(points, weights, strict=True):
        a = np.exp(LOG_DISCRIMINATION[0] + LOG_DISCRIMINATION[1] * log_a)
        for unseen, weight in zip(points, weights, strict=True):
            found += weight_a * weight * _sigmoid(a * (lead - np.sqrt(1.0 - RELIABILITY) * unseen))
    return np.clip(found, 0.0, 1.0)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
