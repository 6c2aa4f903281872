"""What ran where, as a plain dictionary for the run directory."""

from __future__ import annotations

from typing import Any

from sim.cluster_spec import ClusterSpec


def cluster_json(cluster: ClusterSpec) -> dict[str, Any]:
    """A cluster as nested dictionaries, ready for JSON.

    Returns
    -------
    dict
        ``gpus`` (``count``), ``router`` (name of the model router) and ``replicas``: for each, in the order of the
        results, ``name``, ``model``, ``gpus`` (numbers, one per shard), ``compute_share``, ``memory_share`` and
        ``kv_blocks`` with ``block_size``.
    """
    return {
        "gpus": {"count": cluster.gpus},
        "router": cluster.router.kind,
        "replicas": [
            {
                "name": f"{model.name}/{place}",
                "model": model.name,
                "gpus": list(replica.gpus),
                "compute_share": replica.compute_share,
                "memory_share": replica.memory_share,
                "kv_blocks": replica.settings.usable_blocks,
                "block_size": replica.settings.block_size,
            }
            for model in cluster.models
            for place, replica in enumerate(model.replicas)
        ],
    }
