"""The plan drawn on the cluster: from runs, and from plans alone, of one GPU and of many."""

import pytest
from chart_cases import Drawn, plain, simulated

from analysis.charts.catalogue import CHARTS
from analysis.charts.deployment import DeployedReplica, Deployment, Traffic, deployment_of_plan
from analysis.charts.gpu_boxes import gpu_panel
from analysis.charts.traffic_flow import traffic_panel
from analysis.stored.results import Results, StoredDocument, read_results


def plan(gpus, models, fractions, *, loads=(10.0,), left_out=()):
    """A plan's content: models as tp, compute share, memory share, and GPUs of each replica."""
    return {
        "name": "made", "gpus": {"count": gpus, "usable_memory_gib": 72.9}, "left_out": list(left_out),
        "models": {
            name: {"tp": tp, "compute_share": compute, "memory_share": memory, "replicas": replicas}
            for name, (tp, compute, memory, replicas) in models.items()
        },
        "routing": [{"rate_per_s": load, "fractions": fractions} for load in loads],
    }  # fmt: skip


def document(content, tmp_path):
    return StoredDocument(path=tmp_path / "plan.json", name=content["name"], content=content)


def cluster(content, tmp_path):
    return CHARTS["cluster"].make(Results(plans=(document(content, tmp_path),)))


SHARED = plan(
    2, {"small": (1, 0.3, 0.2, [[0], [1]]), "large": (2, 0.6, 0.5, [[0, 1]])}, {"small": 0.75, "large": 0.25},
    left_out=["huge"],
)  # fmt: skip


def test_a_plan_alone(tmp_path):
    chart = cluster(SHARED, tmp_path)
    traffic, gpus = chart.panels
    assert traffic.title == "Planned traffic at 10 requests/s"
    assert gpus.title == "2 GPUs, 72.9 GiB usable each"
    assert "Not deployed: huge." in chart.caption
    drawn = Drawn(traffic)
    assert {"A  small", "B  large", "25 %, 2.50/s, on 2 GPUs", "75 %, 7.50/s, 2 replicas, 1 GPU each"} <= set(
        drawn.texts
    )
    drawn = Drawn(gpus)
    assert {"GPU 0", "GPU 1", "compute 90 %", "memory 70 %", "B 60 %"} <= set(drawn.texts)
    assert any(text.startswith("A0") for text in drawn.texts)
    assert any(text.startswith("A1") for text in drawn.texts)
    rows = [tuple(map(plain, row)) for row in chart.table.rows]
    assert ("made", "large/0", "0, 1", "60 %", "50 %", "25 %") in rows


def test_widths_are_shares(tmp_path):
    panel = gpu_panel(deployment_of_plan(document(SHARED, tmp_path)), "GPUs")
    widths = sorted({round(patch.get_width(), 4) for patch in Drawn(panel).axes.patches if patch.get_alpha()})
    # Compute 0.3 and 0.6, memory 0.2 and 0.5, and the key's squares.
    bar = widths[-1] / 0.6
    assert [round(width / bar, 3) for width in widths[-3:]] == [0.3, 0.5, 0.6]


def test_bands_are_as_wide_as_their_share(tmp_path):
    panel = traffic_panel(
        deployment_of_plan(document(SHARED, tmp_path)),
        Traffic(title="", rate_per_s=None, by_model={"small": 0.75, "large": 0.25}, by_replica={}), "traffic",
    )  # fmt: skip
    bands = [patch for patch in Drawn(panel).axes.patches if patch.get_alpha()]
    widths = [patch.get_path().vertices[0][1] - patch.get_path().vertices[-2][1] for patch in bands]
    assert widths[0] / widths[1] == pytest.approx(3.0)


@pytest.mark.parametrize("gpus", [1, 4, 16, 17, 64])
def test_any_number_of_gpus_fits_a_phone(tmp_path, gpus):
    content = plan(gpus, {"only": (1, 0.5, 0.4, [[gpu] for gpu in range(gpus)])}, {"only": 1.0})
    for panel in cluster(content, tmp_path).panels:
        drawn = Drawn(panel)
        assert panel.size_in[0] <= 4.8
        assert panel.size_in[1] < 6.0
        assert drawn.overlaps() == 0
        assert not drawn.outside
    texts = drawn.texts
    if gpus > 16:
        assert f"{gpus} GPUs: 0-{gpus - 1}" in texts
    else:
        assert f"GPU {gpus - 1}" in texts


def test_unequal_gpus_of_a_large_cluster_are_all_there(tmp_path):
    shards = {f"m{gpu}": (1, 0.01 * (gpu + 1), 0.01 * (gpu + 1), [[gpu]]) for gpu in range(40)}
    content = plan(64, shards, dict.fromkeys(shards, 1 / 40))
    gpus = Drawn(cluster(content, tmp_path).panels[-1])
    assert {str(gpu) for gpu in range(40)} <= {text.split(" ")[-1] for text in gpus.texts}
    assert any(text.startswith("24") for text in gpus.texts)


def test_shards_of_one_replica_are_joined_and_lines_do_not_meet(tmp_path):
    content = plan(
        4, {"a": (2, 0.5, 0.3, [[0, 1], [2, 3]]), "b": (4, 0.5, 0.3, [[0, 1, 2, 3]])}, {"a": 0.5, "b": 0.5}
    )  # fmt: skip
    drawn = Drawn(cluster(content, tmp_path).panels[-1])
    level = [line.get_ydata()[0] for line in drawn.axes.get_lines() if line.get_ydata()[0] == line.get_ydata()[1]]
    spans = [tuple(line.get_xdata()) for line in drawn.axes.get_lines() if line.get_ydata()[0] == line.get_ydata()[1]]
    assert len(spans) == 3
    assert len(set(level)) == 2


def test_a_plan_with_several_loads_has_a_flow_for_each(tmp_path):
    chart = cluster(plan(1, {"m": (1, 1.0, 1.0, [[0]])}, {"m": 1.0}, loads=(5.0, 20.0)), tmp_path)
    assert [panel.title for panel in chart.panels[:-1]] == [
        "Planned traffic at 5 requests/s", "Planned traffic at 20 requests/s",
    ]  # fmt: skip


def test_caps_of_more_than_a_gpu_are_said():
    replicas = tuple(
        DeployedReplica(model=model, number=0, gpus=(0,), compute_share=0.6, memory_share=0.5) for model in ("a", "b")
    )
    deployment = Deployment(
        name="x", gpus=1, gpu_words="", models=("a", "b"), replicas=replicas, traffics=(),
    )  # fmt: skip
    drawn = Drawn(gpu_panel(deployment, "1 GPU"))
    assert "compute 120 %" in drawn.texts
    assert max(patch.get_x() + patch.get_width() for patch in drawn.axes.patches if patch.get_alpha()) < 2.7


def test_a_model_without_requests_is_said_to_have_none(tmp_path):
    content = plan(2, {"a": (1, 1.0, 1.0, [[0]]), "b": (1, 1.0, 1.0, [[1]])}, {"a": 1.0, "b": 0.0})
    assert "no requests, on 1 GPU" in Drawn(cluster(content, tmp_path).panels[0]).texts


def test_a_run_shows_the_traffic_of_each_replica(tmp_path):
    simulated(tmp_path / "run", "replica-crash", "workload.duration_s=60", "faults.crashes=[{at_s: 30, gpu: 0}]")
    results = read_results([tmp_path / "run"])
    chart = CHARTS["cluster"].make(results)
    counts = results.runs[0].requests["replica"].value_counts(normalize=True)
    texts = Drawn(chart.panels[0]).texts
    for number in range(3):
        share = f"{100 * counts[f'llama-7b/{number}']:.1f} %"
        assert any(text.startswith(share) and text.endswith(f"on GPU {number}") for text in texts)
