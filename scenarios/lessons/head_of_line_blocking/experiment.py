"""Questions behind documents: served in order, by chunks, with and without a limit on a prompt's share of a step."""

from __future__ import annotations

from pathlib import Path

from analysis.queueing.queue import Queue
from analysis.queueing.single_server import md1, mg1, mg1_processor_sharing_sojourn_s
from analysis.statistics import mean_interval
from latency_models.laws.linear import LinearStepTime
from scenarios.theory.evidence import Row, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs
from sim.results import Floats
from sim.settings import EngineSettings
from sim.vllm.engine_trace import replay
from sim.workload import RequestSpec

SCENARIO = Path(__file__).with_name("scenario.yaml")

QUESTIONS_PER_S, QUESTION_S = 40.0, 0.005
DOCUMENTS_PER_S, DOCUMENT_S = 0.75, 0.4
RATE_PER_S = QUESTIONS_PER_S + DOCUMENTS_PER_S
SERVICE_S = (QUESTIONS_PER_S * QUESTION_S + DOCUMENTS_PER_S * DOCUMENT_S) / RATE_PER_S

THRESHOLD = "models.server.engine.long_prefill_token_threshold=64"
"""No prompt takes more than 64 of the 512 tokens of a step while others are in the system."""
CROWDED = "models.server.engine.long_prefill_token_threshold=256"
"""Two documents take the whole step."""
NO_DOCUMENTS = ("workload.clients.1.arrivals.rate_per_s=0.0001",)

LAW = LinearStepTime(base_s=1.0765e-2, per_token_s=6.78e-5, per_context_token_s=8.08e-8, per_prefill_pair_s=2.913e-9)
"""The step time of the library's scenario long-prompts."""
LONG_PROMPT = 16_000


def served_in_order() -> Queue:
    """Questions and documents as one M/G/1 queue, first come first served."""
    square = (QUESTIONS_PER_S * QUESTION_S**2 + DOCUMENTS_PER_S * DOCUMENT_S**2) / RATE_PER_S
    return mg1(RATE_PER_S, SERVICE_S, service_cv2=square / SERVICE_S**2 - 1)


def chunked_prefill_s(prompt_tokens: int, chunk_tokens: int, law: LinearStepTime = LAW) -> float:
    """Seconds to compute a prompt alone, in chunks: the step-time law summed over the chunks, by hand."""
    total = 0.0
    for before in range(0, prompt_tokens, chunk_tokens):
        tokens = min(chunk_tokens, prompt_tokens - before)
        total += law.base_s + law.per_token_s * tokens + law.per_context_token_s * (before + tokens)
        total += law.per_prefill_pair_s * tokens * (before + tokens / 2)
    return total


def simulated_prefill_s(prompt_tokens: int, chunk_tokens: int) -> float:
    """The same by the engine, on which nothing else runs."""
    settings = EngineSettings(max_num_batched_tokens=chunk_tokens, max_model_len=32_768)
    trace = replay([RequestSpec(0.0, prompt_tokens, 1, request_id="long")], settings, LAW)
    return float(trace.requests[0]["ttft"])


def longest_pause_s(chunk_tokens: int) -> float:
    """Longest time between two tokens of a chat while a long prompt is computed beside it in such chunks."""
    settings = EngineSettings(max_num_batched_tokens=chunk_tokens, max_model_len=32_768)
    chat = RequestSpec(0.0, 100, 600, request_id="chat")
    long = RequestSpec(0.5, LONG_PROMPT, 1, request_id="long")
    steps = replay([chat, long], settings, LAW).steps
    return max(float(row["t_end"] - row["t_start"]) for row in steps if row["n_decode"])


def ttft_of(run: StationaryRun, request_class: str) -> Floats:
    """TTFT of the requests of a class, seconds."""
    classes = run.result.requests.request_class[run.rows]
    chosen: Floats = run.ttft_s[classes == run.result.classes.index(request_class)]
    return chosen


def experiment(*, replications: int) -> list[Row]:
    """What a question and a document wait for, and what chunks cost."""
    plain = stationary_runs(SCENARIO, replications=replications)
    shared = stationary_runs(SCENARIO, [THRESHOLD], replications=replications)
    crowded = stationary_runs(SCENARIO, [CROWDED], replications=replications)
    alone = stationary_runs(SCENARIO, NO_DOCUMENTS, replications=replications)
    in_order = served_in_order()
    formula = "Pollaczek-Khinchine [Kleinrock, 5.5]"
    sharing = mg1_processor_sharing_sojourn_s(RATE_PER_S, SERVICE_S, DOCUMENT_S)
    rows = [
        Row(
            quantity="TTFT of a question, no documents",
            unit="s",
            theory=md1(QUESTIONS_PER_S, QUESTION_S).mean_sojourn_s,
            source="M/D/1 [Kleinrock, 5.5]",
            simulated=mean_over(alone, lambda run: ttft_of(run, "question").mean()),
            # Who comes during a step shares the next one.
            tolerance=0.05,
        ),
        Row(
            quantity="TTFT of a question, chunked prefill",
            unit="s",
            theory=in_order.mean_wait_s + QUESTION_S,
            source=formula,
            simulated=mean_over(plain, lambda run: ttft_of(run, "question").mean()),
            # Tokens come at the ends of steps of up to 26 ms.
            tolerance=0.1,
        ),
        Row(
            quantity="TTFT of a document, chunked prefill",
            unit="s",
            theory=in_order.mean_wait_s + DOCUMENT_S,
            source=formula,
            simulated=mean_over(plain, lambda run: ttft_of(run, "document").mean()),
            tolerance=0.03,
        ),
        Row(
            quantity="TTFT of a question, 64 of 512 tokens for a prompt",
            unit="s",
            theory=in_order.mean_wait_s + QUESTION_S,
            source=f"{formula}, which no longer holds",
            simulated=mean_over(shared, lambda run: ttft_of(run, "question").mean()),
            claim="differs",
            tolerance=0.5,
        ),
        Row(
            quantity="TTFT of a document, 64 of 512 tokens for a prompt",
            unit="s",
            theory=sharing,
            source="M/G/1-PS: work / (1 - load) [Kleinrock II, 4.4]",
            simulated=mean_over(shared, lambda run: ttft_of(run, "document").mean()),
            # A document alone in the system has the whole step, and questions are served first.
            tolerance=0.1,
        ),
        Row(
            quantity="TTFT of a question, 256 of 512 tokens for a prompt",
            unit="s",
            simulated=mean_over(crowded, lambda run: ttft_of(run, "question").mean()),
            claim="none",
        ),
    ]
    for chunk in (8192, 512, 128):
        simulated = simulated_prefill_s(LONG_PROMPT, chunk)
        rows.append(
            Row(
                quantity=f"a {LONG_PROMPT:,}-token prompt alone, chunks of {chunk:,}",
                unit="s",
                theory=chunked_prefill_s(LONG_PROMPT, chunk),
                source="the step-time law, summed over the chunks",
                simulated=mean_interval([simulated, simulated]),
                tolerance=1e-9,
            )
        )
    return rows


def answers() -> dict[str, float]:
    """Answers of the exercises."""
    return {
        "1": 1000 * served_in_order().mean_wait_s,
        "2": (QUESTIONS_PER_S * QUESTION_S**2 + DOCUMENTS_PER_S * DOCUMENT_S**2)
        / (QUESTIONS_PER_S * QUESTION_S**2)
        * (1 - QUESTIONS_PER_S * QUESTION_S)
        / (1 - RATE_PER_S * SERVICE_S),
        "3": simulated_prefill_s(LONG_PROMPT, 128) / simulated_prefill_s(LONG_PROMPT, 8192),
        "4": 1000 * longest_pause_s(2048),
    }
