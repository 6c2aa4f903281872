"""Reports as a browser shows them: nothing fails, nothing sticks out, at any width, in light, dark and on paper."""

import shutil

import pytest
import yaml
from page_checks import browser, loading_faults, visible_faults

from analysis.reports.page import write_report
from analysis.stored.results import read_results
from scenarios.runner import RunOptions, run_scenario
from scenarios.scenario_files import load_scenario

SHORT = ["workload.duration_s=25", "slo='ttft:300 tpot:60'", "run.warmup=5"]
LONG_NAME = "an-organisation/A-Model-With-A-Very-Long-Name-70B-Instruct-AWQ-INT4"


@pytest.fixture(scope="module")
def driver():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pages")
    run_scenario(load_scenario("plan-demo", [*SHORT, "run.replications=2"]), RunOptions(out=place / "run"))
    run_scenario(load_scenario("mm1", ["workload.requests=60", "run.warmup=0"]), RunOptions(out=place / "mm1"))
    run_scenario(crowded(place / "crowded.yaml"), RunOptions(out=place / "crowded"))
    return place


def crowded(path):
    """Twelve models, one of them with a long name and one with markup in it."""
    names = [LONG_NAME, "<img src=x onerror=alert(1)> & $a_b$", *(f"model-{number}" for number in range(10))]
    model = {"latency": {"kind": "linear", "base_s": 0.01}, "engine": {"num_gpu_blocks": 2000}}
    tokens = {"kind": "uniform", "minimum": 20, "maximum": 60}
    arrivals = {"kind": "poisson", "rate_per_s": 30}
    lengths = {"prompt": tokens, "output": tokens}
    scenario = {
        "gpus": {"count": len(names)},
        "models": {name: {**model, "replicas": [{"gpus": [place]}]} for place, name in enumerate(names)},
        "routing": {"kind": "fractions", "fractions": dict.fromkeys(names, 1 / len(names))},
        "workload": {"kind": "synthetic", "arrivals": arrivals, "lengths": lengths, "duration_s": 20},
        "slo": "ttft:50",
    }
    path.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    return load_scenario(str(path))


@pytest.fixture(scope="module", params=["run", "mm1", "crowded", "run mm1"])
def page(request, folder):
    path = folder / f"{request.param.replace(' ', '-')}.html"
    write_report(read_results([folder / name for name in request.param.split()]), path)
    return path


VIEWS = (
    {"width": 390},
    {"width": 390, "theme": "dark"},
    {"width": 768},
    {"width": 1280},
    {"width": 1280, "theme": "dark"},
    {"width": 700, "medium": "print"},
)


def test_a_report_is_fit_to_be_seen(driver, page):
    assert loading_faults(driver, page) == []
    for view in VIEWS:
        assert visible_faults(driver, **view) == [], view
    driver.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    for view in VIEWS:
        assert visible_faults(driver, **view) == [], ("unfolded", view)


def test_the_theme_can_be_chosen_and_paper_is_always_light(driver, folder, tmp_path):
    page = tmp_path / "page.html"
    write_report(read_results([folder / "mm1"]), page)

    def background():
        return driver.execute_script("return getComputedStyle(document.body).getPropertyValue('--page').trim()")

    driver.get(page.as_uri())
    assert visible_faults(driver, width=1280) == []
    driver.execute_script("localStorage.clear()")
    driver.refresh()
    button = driver.find_element("id", "theme")
    seen = []
    for _ in range(3):
        seen.append((button.text, background()))
        button.click()
    assert [words for words, _ in seen] == ["Theme: as the system", "Theme: light", "Theme: dark"]
    assert seen[0][1] == seen[1][1] != seen[2][1]
    button.click()
    button.click()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert background() == seen[0][1]


def test_everything_is_there_without_a_script(driver, folder, tmp_path):
    path = tmp_path / "page.html"
    write_report(read_results([folder / "run"]), path)
    text = path.read_text(encoding="utf-8")
    driver.get(path.as_uri())
    with_script = driver.execute_script("return document.querySelector('main').innerText")
    start, end = text.index("<script>"), text.index("</script>") + len("</script>")
    path.write_text(text[:start] + text[end:], encoding="utf-8")
    driver.get(path.as_uri())
    without = driver.execute_script("return document.querySelector('main').innerText")
    assert without.split() == with_script.replace("\nCopy", "").split()


BROKEN = {
    "console": "<script>nothing.there()</script>",
    "image": '<img src="data:image/png;base64,AAAA">',
    "request": '<link rel="stylesheet" href="http://127.0.0.1:9/style.css">',
    "overflow": '<div style="width: 2000px">wide</div>',
    "text": '<svg width="100" height="30"><text x="90" y="20">sticks out on the right</text></svg>',
    "headings": '<h2>one</h2><h2 style="margin-top: -2em">two</h2>',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_found(driver, tmp_path, kind):
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><html><body><p>x</p>{BROKEN[kind]}</body></html>", encoding="utf-8")
    found = loading_faults(driver, path) + visible_faults(driver, width=390)
    assert kind in {fault.split(":")[0] for fault in found}


def test_a_sound_page_has_no_faults(driver, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<!DOCTYPE html><html><body><h1>one</h1><h2>two</h2></body></html>", encoding="utf-8")
    assert loading_faults(driver, path) + visible_faults(driver, width=390) == []


def test_without_a_browser_the_tests_skip(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(pytest.skip.Exception, match="chromium"), browser():
        pass
