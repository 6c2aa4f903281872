"""Words that a report uses, for those who meet them for the first time."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("TTFT", "Time to first token: from the arrival of a request to its first token."),
    ("TPOT", "Time per output token: (last token - first token) / (tokens - 1) of a request."),
    ("ITL", "Inter-token latency: each single gap between two tokens of a request."),
    ("E2E", "End-to-end latency: from the arrival of a request to its complete answer."),
    ("P95", "95 % of the values are at most this; P50 and P99 likewise."),
    ("SLO", "Service level objective: a limit on a latency, of every request or of a statistic over all of them."),
    (
        "kept limits",
        "SLO attainment: share of all requests that kept every limit. Requests that were rejected, timed out, "
        "cancelled, lost or unfinished are in it, as misses.",
    ),
    ("offered", "Requests that arrive per second, whether or not they are answered."),
    ("replica", "One vLLM engine of a model, on one GPU or, with tensor parallelism, as shards on several."),
    (
        "compute share",
        "Share of a GPU's multiprocessors that a shard may use (CUDA MPS), so that models can share GPUs.",
    ),
    ("KV memory", "Memory that keeps attention keys and values of running requests, in blocks of tokens."),
    ("preemption", "A running request loses its KV blocks for want of memory, and is computed again later."),
    ("prefill", "Computing the prompt, before the first token; decoding follows, a token of every request per step."),
    ("utilisation", "Share of time in which a replica computes. At 100 % it may still have room in its batches."),
    (
        "score",
        "Quality of an answer between 0 and 1: predicted is what the router believed of the model that it chose, "
        "achieved the true outcome, 0 where no answer came.",
    ),
    ("good answer", "One that kept its limits, where there are any, counted by its true score, where that is known."),
    ("cost", "Of all GPUs of the cluster, busy or not, at the price of the scenario or of the GPU catalogue."),
    ("promise", "What a plan was chosen for: figures read off load-latency curves, or found by simulation."),
    ("replication", "An independent repetition of a simulation, with other random numbers."),
    (
        "interval",
        "[low, high]: confidence interval of the mean over replications (Student's t, unless said otherwise). Of 100 "
        "such intervals at 95 % confidence, some 95 contain the true value.",
    ),
    ("warm-up", "The first seconds of a simulation, left out of the figures, since it begins with an empty system."),
)
"""Words and what they mean."""
