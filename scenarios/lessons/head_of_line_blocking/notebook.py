# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
"""Head-of-line blocking and chunked prefill (the lesson as a notebook)."""

# %% [markdown]
# # Head-of-line blocking and chunked prefill
#
# Forty questions a second (5 ms of prefill each) share an engine with three documents in four seconds (400 ms each).
# Prompts are cut into chunks. Do questions wait for documents?

# %%
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.single_server import mg1
from analysis.statistics import Interval
from latency_models.laws.linear import LinearStepTime
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs
from sim.results import Floats
from sim.settings import EngineSettings
from sim.vllm.engine_trace import replay
from sim.workload import RequestSpec

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)
LIMITS = {"no limit": 0, "256 of 512 tokens": 256, "64 of 512 tokens": 64}
runs = {
    label: stationary_runs(
        "scenario.yaml", [f"models.server.engine.long_prefill_token_threshold={limit}"], replications=REPLICATIONS
    )
    for label, limit in LIMITS.items()
}


def ttft_of(run: StationaryRun, request_class: str) -> Floats:
    """TTFT of the requests of a class, seconds."""
    classes = run.result.requests.request_class[run.rows]
    chosen: Floats = run.ttft_s[classes == run.result.classes.index(request_class)]
    return chosen


def mean_ttft(label: str, request_class: str) -> Interval:
    """Mean TTFT with its interval."""
    return mean_over(runs[label], lambda run: ttft_of(run, request_class).mean())


# %% [markdown]
# ## In the order of arrival
#
# Pollaczek-Khinchine knows nothing of chunks. It is right all the same.

# %%
rate = 40.75
mean_work = (40 * 0.005 + 0.75 * 0.4) / rate
mean_square = (40 * 0.005**2 + 0.75 * 0.4**2) / rate
in_order = mg1(rate, mean_work, service_cv2=mean_square / mean_work**2 - 1)
found = mean_ttft("no limit", "question")
print(f"theory: a question waits {in_order.mean_wait_s * 1000:.0f} ms and takes 5 ms")
print(f"simulated TTFT: {found.estimate * 1000:.0f} ms ({found.low * 1000:.0f} to {found.high * 1000:.0f})")

# %% [markdown]
# ## Who waits how long
#
# Each curve: the share of the requests whose first token takes longer than the time on the axis.

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for axes, request_class in zip(panels, ("question", "document"), strict=True):
    for label, style in zip(LIMITS, ("-", "--", ":"), strict=True):
        times = np.sort(np.concatenate([ttft_of(run, request_class) for run in runs[label]]))
        axes.step(times, 1 - np.arange(len(times)) / len(times), style, where="post", label=label, linewidth=2)
    axes.set(yscale="log", ylim=(1e-3, 1.3), xlabel=f"TTFT of a {request_class} (s)")
panels[0].set(xscale="log", ylabel="share that takes longer")
panels[0].set_xticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
panels[0].set_yticks([1, 0.1, 0.01, 0.001], ["100 %", "10 %", "1 %", "0.1 %"])
panels[1].legend(title="most of a prompt in a step", loc="upper right")
show_picture(figure, "who-waits")

# %% [markdown]
# ## What chunks cost, and what they buy
#
# A 16,000-token prompt on an engine with the step times of a 7B model on an A100: alone, and next to a chat whose
# tokens come at the end of every step.

# %%
LAW = LinearStepTime(base_s=1.0765e-2, per_token_s=6.78e-5, per_context_token_s=8.08e-8, per_prefill_pair_s=2.913e-9)
CHUNKS = [128, 256, 512, 1024, 2048, 4096, 8192]
LONG = 16_000


def prefill_s(chunk: int) -> float:
    """Seconds until the first token of the long prompt, alone on the engine."""
    settings = EngineSettings(max_num_batched_tokens=chunk, max_model_len=32_768)
    return float(replay([RequestSpec(0.0, LONG, 1, request_id="long")], settings, LAW).requests[0]["ttft"])


def formula_s(chunk: int) -> float:
    """The step-time law over all chunks, for chunks that divide the prompt."""
    steps = LONG / chunk
    context = LONG * (LONG + chunk) / (2 * chunk)
    work = LAW.per_token_s * LONG + LAW.per_context_token_s * context + LAW.per_prefill_pair_s * LONG**2 / 2
    return steps * LAW.base_s + work


def longest_pause_s(chunk: int) -> float:
    """Longest step in which a chat decodes beside the long prompt."""
    settings = EngineSettings(max_num_batched_tokens=chunk, max_model_len=32_768)
    chat = RequestSpec(0.0, 100, 600, request_id="chat")
    long = RequestSpec(0.5, LONG, 1, request_id="long")
    steps = replay([chat, long], settings, LAW).steps
    return max(float(row["t_end"] - row["t_start"]) for row in steps if row["n_decode"])


figure, axes = plt.subplots(figsize=(6.5, 4))
alone_s = [prefill_s(chunk) for chunk in CHUNKS]
pauses_ms = [1000 * longest_pause_s(chunk) for chunk in CHUNKS]
axes.plot(alone_s, pauses_ms, marker="o")
for chunk, seconds, pause_ms in zip(CHUNKS, alone_s, pauses_ms, strict=True):
    axes.annotate(f"{chunk:,}", (seconds, pause_ms), textcoords="offset points", xytext=(7, 3), fontsize=9)
axes.set(
    yscale="log", ylim=(20, 1100), xlim=(1.3, 3.05),
    xlabel="prefill of the long prompt alone (s)", ylabel="longest pause of a chat (ms)",
    title="Each point is a size of chunk (tokens)",
)  # fmt: skip
axes.set_yticks([30, 100, 300, 1000], ["30", "100", "300", "1,000"])
axes.minorticks_off()
show_picture(figure, "chunks")

# %% [markdown]
# ## What must hold

# %%
theory = in_order.mean_wait_s
rows = [
    Row(quantity="question, no limit", unit="s", theory=theory + 0.005, tolerance=0.1, simulated=found),
    Row(
        quantity="document, no limit",
        unit="s",
        theory=theory + 0.4,
        tolerance=0.03,
        simulated=mean_ttft("no limit", "document"),
    ),
    Row(
        quantity="question, 64 of 512 tokens",
        unit="s",
        theory=theory + 0.005,
        claim="differs",
        tolerance=0.5,
        simulated=mean_ttft("64 of 512 tokens", "question"),
    ),
    Row(
        quantity="document, 64 of 512 tokens: processor sharing",
        unit="s",
        theory=0.4 / (1 - 0.5),
        tolerance=0.1,
        simulated=mean_ttft("64 of 512 tokens", "document"),
    ),
]
check_rows(rows)
questions = {label: mean_ttft(label, "question").estimate for label in LIMITS}
assert questions["64 of 512 tokens"] < 0.5 * questions["256 of 512 tokens"] < 0.5 * questions["no limit"]
for chunk in (128, 256, 512, 1024, 2048):
    # The last chunk is shorter where the size does not divide the prompt.
    assert abs(prefill_s(chunk) - formula_s(chunk)) < 0.02 * formula_s(chunk)
assert alone_s == sorted(alone_s, reverse=True), "larger chunks, shorter prefill"
assert pauses_ms == sorted(pauses_ms), "larger chunks, longer pauses"
print("theory and simulation are where they should be")
