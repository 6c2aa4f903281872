"""Prompt tables: what is refused, the layouts of files, the built-in table, and learned predictions."""

import csv
import gzip
import json
import pickle

import numpy as np
import pandas
import pytest

from latency_models.errors import InputError
from scenarios.prompt_tables import item_response
from scenarios.prompt_tables.item_response import ANSWERING_MODELS, built_in_table
from scenarios.prompt_tables.item_response_fit import fit_item_response, log_likelihood
from scenarios.prompt_tables.layouts import read_score_file, read_texts
from scenarios.prompt_tables.score_quality import model_qualities, router_gain
from scenarios.prompt_tables.writing import write_table
from sim.prompt_table import PromptTable


def table(**changes):
    values = {"models": ("a", "b"), "predicted": [[0.1, 0.9], [0.5, 0.4]], "prompt_ids": ("p", "q")}
    return PromptTable(**{**values, **changes})


def test_a_table_cannot_be_written_to_nor_changed_from_outside():
    scores = np.array([[0.1, 0.9]])
    found = PromptTable(models=("a", "b"), predicted=scores)
    scores[0, 0] = 7.0
    assert found.predicted[0, 0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        found.predicted[0, 0] = 0.2
    assert found.prompt_ids == ("0",)


def test_models_are_selected_by_name_in_the_order_asked_for():
    found = table(outcomes=[[0, 1], [1, 0]], output_tokens=[[5, 6], [7, 8]]).select(("b", "a"))
    assert found.models == ("b", "a")
    assert found.predicted.tolist() == [[0.9, 0.1], [0.4, 0.5]]
    assert found.outcomes.tolist() == [[1, 0], [0, 1]]
    assert found.output_tokens.tolist() == [[6, 5], [8, 7]]
    with pytest.raises(InputError, match=r"'c'.*choices: a, b"):
        table().select(("c",))


def test_the_hash_tells_tables_apart():
    hashes = {
        table().content_hash(),
        table(prompt_ids=("p", "r")).content_hash(),
        table(predicted=[[0.1, 0.9], [0.5, 0.5]]).content_hash(),
        table(outcomes=[[0, 1], [1, 0]]).content_hash(),
        table(output_tokens=[[0, 1], [1, 0]]).content_hash(),
    }
    assert len(hashes) == 5
    assert table().content_hash() == table().content_hash()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"predicted": [[0.1, 1.2], [0.5, 0.4]]},
            "predicted scores: prompt p, model b is 1.2; allowed: a score from 0",
        ),
        ({"predicted": [[0.1, 0.9], [-0.5, 0.4]]}, "prompt q, model a is -0.5"),
        ({"predicted": [[0.1, 0.9], [np.nan, 0.4]]}, "prompt q, model a is nan"),
        ({"predicted": [[np.inf, np.inf], [0.5, 0.4]]}, "2 such values"),
        ({"predicted": np.zeros((0, 2)), "prompt_ids": ()}, "no prompts"),
        ({"predicted": [[0.1], [0.2]]}, "columns of the predicted scores is 1; allowed: 2"),
        ({"predicted": [["x", "y"]]}, "no table of numbers"),
        ({"outcomes": [[0.0, 2.0], [0.0, 1.0]]}, "outcomes: prompt p, model b is 2.0"),
        ({"outcomes": [[0.0, 1.0]]}, r"shape of the outcomes is \(1, 2\)"),
        ({"output_tokens": [[-1, 2], [3, 4]]}, "output tokens: prompt p, model a is -1.0; allowed: a finite number"),
        ({"models": ("a", "a")}, "each name once"),
        ({"models": ()}, "at least one name"),
        ({"prompt_ids": ("p", "p")}, "prompt_ids is 'p'; allowed: each prompt once"),
        ({"prompt_ids": ("p",)}, "number of prompt_ids is 1; allowed: 2"),
    ],
)
def test_a_table_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        table(**changes)


def test_own_layout_comes_back_as_it_was_written(tmp_path):
    before = table(outcomes=[[0, 1], [1, 0.5]], output_tokens=[[5, 6], [7, 8]])
    for name in ("t.csv", "t.parquet"):
        write_table(tmp_path / name, before)
        found = read_score_file(tmp_path / name)
        assert found.layout == "routerwise"
        assert found.table().content_hash() == before.content_hash()
        assert read_score_file(tmp_path / name, ["b"]).table().predicted.tolist() == [[0.9], [0.4]]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_routerbench_columns(tmp_path):
    path = tmp_path / "rb.csv"
    path.write_text(
        "sample_id,prompt,eval_name,org/m1,m2,org/m1|model_response,org/m1|total_cost,oracle_model_to_route_to\n"
        's1,"one, two",mmlu,1.0,0.0,"text",0.1,org/m1\n'
        "s2,three,gsm,0.25,1.0,t,0.1,m2\n"
    )
    found = read_score_file(path)
    assert (found.layout, found.models, found.prompt_ids) == ("routerbench", ("org/m1", "m2"), ("s1", "s2"))
    assert found.outcomes.tolist() == [[1.0, 0.0], [0.25, 1.0]]
    assert found.texts == ("one, two", "three")
    # As Parquet, which is what a converted pickle becomes.
    pandas.read_csv(path).to_parquet(tmp_path / "rb.parquet")
    same = read_score_file(tmp_path / "rb.parquet")
    assert (same.models, same.prompt_ids, same.texts) == (found.models, found.prompt_ids, found.texts)
    assert same.outcomes.tolist() == found.outcomes.tolist()
    with pytest.raises(InputError, match="no predicted scores; make predictions with `routerwise scores fit`"):
        found.table()
    assert found.table(oracle=True).predicted.tolist() == found.outcomes.tolist()


def test_wide_outcomes_with_tokens_in_a_file_of_their_own(tmp_path):
    with gzip.open(tmp_path / "correct.csv.gz", "wt") as stream:
        stream.write(
            "question_id,category,question_tokens,answer,m1,m2\n7,law,10,A,1,0\n8,law,11,B,,1\n9,law,12,C,0,1\n"
        )
    (tmp_path / "tokens.csv").write_text("question_id,m1,m2\n9,30,40\n8,1,2\n7,10,20\n")
    found = read_score_file(tmp_path / "correct.csv.gz", tokens=tmp_path / "tokens.csv")
    assert (found.prompt_ids, found.left_out, found.layout) == (("7", "9"), 1, "wide")
    assert found.output_tokens.tolist() == [[10, 20], [30, 40]]
    # Without the model that was not evaluated on it, the prompt stays.
    assert read_score_file(tmp_path / "correct.csv.gz", ["m2"]).prompt_ids == ("7", "8", "9")
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"question_id": i, "prompt": f"text\u2028{i}"}) + "\n" for i in (9, 8, 7))
    )
    assert read_texts(tmp_path / "texts.jsonl", found.prompt_ids) == ("text\u20287", "text\u20289")
    with pytest.raises(InputError, match="no text of prompt 10"):
        read_texts(tmp_path / "texts.jsonl", ("10",))


def test_long_outcomes(tmp_path):
    path = tmp_path / "long.csv"
    header = "prompt_id,task,prompt_tokens,model,correct,answer_parsed,output_tokens\n"
    path.write_text(header + "x,gsm,5,m1,1,1,30\nx,gsm,5,m2,0,1,40\ny,gsm,5,m2,1,1,50\n")
    found = read_score_file(path)
    assert (found.layout, found.models, found.prompt_ids, found.left_out) == ("long", ("m1", "m2"), ("x",), 1)
    assert found.output_tokens.tolist() == [[30, 40]]
    path.write_text(header + "x,gsm,5,m1,1,1,30\nx,gsm,5,m1,0,1,40\n")
    with pytest.raises(InputError, match="prompt x twice for model m1"):
        read_score_file(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("prompt_id,predicted.a\n", "no rows"),
        ("prompt_id,predicted.a,predicted.b,outcome.a\np,1,1,0\n", "no column outcome.b"),
        ("predicted.a\n0.5\n", "no column prompt_id"),
        ("prompt_id,predicted.a\np,nan\n", "column predicted.a, row 1 is 'nan'; allowed: a finite number"),
        ("prompt_id,predicted.a\np,\n", "row 1 is ''"),
        ("prompt_id,predicted.a\np,high\n", "row 1 is 'high'"),
        ("prompt_id,predicted.a\np,0.5,0.6\n", "line 2 has 3 cells; allowed: 2"),
        ("prompt_id,predicted.a,predicted.a\np,0.5,0.6\n", "predicted.a.*each column once"),
        ("prompt_id,predicted.a\np,0.5\np,0.6\n", "prompt_id is 'p'; allowed: each prompt once"),
        ("prompt_id,predicted.a\np,0.5\n,0.6\n", "column prompt_id, row 2 is ''; allowed: the name of a prompt"),
        ("x,y\n1,2\n", "is no prompt table: columns x, y"),
        ("prompt_id,category\np,law\n", "no model columns"),
        ("prompt_id,m1,m2\np,1,\nq,,1\n", "no prompt on which all of m1, m2 were evaluated"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_score_file(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv.gz", gzip.compress(b"prompt_id,predicted.a\np,0.5\n")[:10] + bytes(range(255, 200, -1)), "cannot read"),
        (
            "t.jsonl",
            b'{"prompt_id": "p", "predicted.a": 1' + b"0" * 400 + b"}",
            "row 1 is 10+; allowed: a finite number",
        ),
        ("t.jsonl", b"[" * 100_000, "line 1 is not a JSON object"),
        ("t.jsonl", b'{"prompt_id": null, "predicted.a": 1}', "row 1 is None; allowed: the name of a prompt"),
    ],
    # Bytes would be part of the tests' names otherwise, and those of gzip hold the time.
    ids=["gzip", "huge number", "deep", "no name"],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_score_file(tmp_path / name)


def test_long_texts_blank_lines_and_spaces_in_the_header_are_no_fault(tmp_path):
    limit = csv.field_size_limit()
    text = "word " * 40_000
    (tmp_path / "t.csv").write_text(f"sample_id, prompt, eval_name, m1\na,{text},gsm,1\n\nb,short,gsm,0\n\n")
    found = read_score_file(tmp_path / "t.csv")
    assert (found.models, found.prompt_ids, found.texts) == (("m1",), ("a", "b"), (text, "short"))
    assert csv.field_size_limit() == limit
    (tmp_path / "t.jsonl").write_text(
        '{"prompt_id": 1, "predicted.a": 0.5}\n\n{"prompt_id": 2, "predicted.a": 0.1}\n\n'
    )
    assert read_score_file(tmp_path / "t.jsonl").predicted.tolist() == [[0.5], [0.1]]


def test_a_missing_model_is_named_with_the_nearest(tmp_path):
    (tmp_path / "t.csv").write_text("prompt_id,predicted.llama-7b\np,0.5\n")
    with pytest.raises(InputError, match="'llama-7'; did you mean 'llama-7b'"):
        read_score_file(tmp_path / "t.csv", ["llama-7"])


@pytest.mark.parametrize("name", ["t.pkl", "t.csv"])
def test_pickles_are_never_read(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"is a pickle.*to_parquet"):
        read_score_file(tmp_path / name)
    assert not (tmp_path / "trapped").exists()


def test_the_built_in_table_is_drawn_alike_each_time_and_model_by_model():
    first = built_in_table(("Llama-2-7b-hf", "Qwen1.5-72B-Chat"), prompts=500)
    again = built_in_table(("Qwen1.5-72B-Chat", "Llama-2-7b-hf"), prompts=500)
    assert first.content_hash() == again.select(first.models).content_hash()
    assert built_in_table(first.models, prompts=500, seed=2).content_hash() != first.content_hash()
    with pytest.raises(InputError, match="built-in prompt table 'llama'"):
        built_in_table(("llama",))
    with pytest.raises(InputError, match="prompts is 0"):
        built_in_table(first.models, prompts=0)


def test_the_built_in_predictions_are_calibrated_and_rank_as_stated():
    found = built_in_table(tuple(ANSWERING_MODELS), prompts=20_000)
    for name, quality in model_qualities(found).items():
        assert 0.63 < quality.auc < 0.72, name
        assert quality.brier < quality.brier_of_mean
        for part in quality.calibration:
            assert abs(part.predicted - part.outcome) < 5 * np.sqrt(0.25 / part.prompts), name
    shares = dict(zip(found.models, found.outcomes.mean(axis=0), strict=True))
    # Shares of right answers that were recorded; subjects are drawn anew, so abilities move by about 0.152 / sqrt(14).
    for name, recorded in (
        ("Llama-2-7b-hf", 0.195),
        ("Mixtral-8x7B-Instruct-v0.1", 0.441),
        ("DeepSeek-Coder-V2", 0.634),
    ):
        assert shares[name] == pytest.approx(recorded, abs=0.04)


def test_the_fit_finds_the_figures_that_outcomes_were_drawn_with():
    names = tuple(ANSWERING_MODELS)
    rng = np.random.default_rng(0)
    ability = np.array([ANSWERING_MODELS[name].ability for name in names])
    a = np.exp(0.662 + 0.471 * rng.standard_normal((4000, 1)))
    right = rng.random((4000, 15)) < 1 / (1 + np.exp(-a * (ability - rng.standard_normal((4000, 1)))))
    found = fit_item_response(right.astype(float)[:, ::3], names[::3], ("all",) * 4000)
    assert np.array(list(found.abilities.values())) == pytest.approx(ability[::3], abs=0.07)
    assert found.log_discrimination[0] == pytest.approx(0.662, abs=0.1)
    assert found.subject_deviation < 0.05
    with pytest.raises(InputError, match="other than 0 and 1"):
        fit_item_response(np.full((5, 2), 0.5), ("a", "b"), ("s",) * 5)
    with pytest.raises(InputError, match="alike"):
        fit_item_response(np.ones((5, 2)), ("a", "b"), ("s",) * 5)


def test_the_likelihood_is_that_of_brute_force():
    outcomes = np.array([[1.0, 0.0], [1.0, 1.0]])
    rng = np.random.default_rng(1)
    b, a = rng.standard_normal(200_000), np.exp(0.3 + 0.4 * rng.standard_normal(200_000))
    right = 1 / (1 + np.exp(-a[:, None] * (np.array([0.2, -0.5]) - b[:, None])))
    each = [np.log(np.prod(np.where(row == 1.0, right, 1 - right), axis=1).mean()) for row in outcomes]
    assert log_likelihood(outcomes, np.array([0.2, -0.5]), 0.3, 0.4) == pytest.approx(np.mean(each), abs=5e-3)


def test_the_figures_are_those_of_the_recorded_outcomes(data_root):
    folder = data_root / "data" / "mmlu_pro_outcomes"
    found = read_score_file(folder / "correct.csv.gz", tokens=folder / "output_tokens.csv.gz")
    assert set(found.models) == set(ANSWERING_MODELS)
    mean, deviation = item_response.LOG_DISCRIMINATION
    ability = np.array([ANSWERING_MODELS[name].ability for name in found.models])
    best = log_likelihood(found.outcomes, ability, mean, deviation)
    for shift in (0.05, -0.05):
        assert log_likelihood(found.outcomes, ability + shift, mean, deviation) < best
        assert log_likelihood(found.outcomes, ability, mean + shift, deviation) < best
        assert log_likelihood(found.outcomes, ability, mean, deviation + shift) < best
    for column, name in enumerate(found.models):
        assert np.median(found.output_tokens[:, column]) == pytest.approx(ANSWERING_MODELS[name].median_tokens, abs=1)


def test_the_recorded_outcomes_are_read(data_root):
    mmlu = data_root / "data" / "mmlu_pro_outcomes"
    pair = ["Mistral-7B-Instruct-v0.2", "Meta-Llama-3_1-70B-Instruct"]
    wide = read_score_file(mmlu / "correct.csv.gz", pair, tokens=mmlu / "output_tokens.csv.gz")
    assert wide.layout == "wide"
    assert wide.outcomes.mean(axis=0) == pytest.approx([0.288, 0.631], abs=1e-3)
    assert np.isfinite(wide.output_tokens).all()
    pair = ["gemma-2-2b-it", "Qwen2-72B-Instruct"]
    long = read_score_file(data_root / "data" / "zeroeval_outcomes" / "outcomes.csv.gz", pair)
    assert long.layout == "long"
    assert len(long.prompt_ids) == 1198
    assert set(np.unique(long.outcomes)) == {0.0, 1.0}
    assert long.outcomes.mean(axis=0) == pytest.approx([0.352, 0.752], abs=1e-3)


def test_quality_on_a_table_that_can_be_checked_by_hand():
    found = model_qualities(
        PromptTable(models=("a",), predicted=[[0.9], [0.6], [0.6], [0.2]], outcomes=[[1], [0], [1], [0]])
    )["a"]
    assert found.auc == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert found.brier == pytest.approx((0.01 + 0.36 + 0.16 + 0.04) / 4)
    assert found.brier_of_mean == 0.25
    gain = router_gain(table(outcomes=[[0, 1], [1, 0]]))
    assert (gain.best_single, gain.routed, gain.oracle, gain.routed_equally, gain.random_equally) == (0.5, 1, 1, 1, 0.5)


def test_learned_predictions_are_out_of_sample_and_find_what_words_say():
    pytest.importorskip("sklearn")
    from scenarios.prompt_tables.layouts import ScoreFile
    from scenarios.prompt_tables.score_fit import fit_scores

    rng = np.random.default_rng(0)
    hard = rng.random(400) < 0.5
    texts = tuple(f"{'prove the theorem' if h else 'name the capital'} number {i % 20}" for i, h in enumerate(hard))
    right = (rng.random((400, 2)) < np.where(hard[:, None], (0.2, 0.5), (0.9, 0.9))).astype(float)
    right[:, 1] *= 0.5  # a score that is not 0 or 1
    ids = tuple(map(str, range(400)))
    source = ScoreFile(layout="wide", models=("m1", "m2"), prompt_ids=ids, outcomes=right)
    found = fit_scores(source, texts)
    assert found.predicted[hard, 0].mean() == pytest.approx(0.2, abs=0.12)
    assert found.predicted[~hard, 0].mean() == pytest.approx(0.9, abs=0.12)
    assert found.predicted[~hard, 1].mean() == pytest.approx(0.45, abs=0.1)
    # Noise cannot be learned: what predicts better than chance has seen its own outcomes.
    noise = ScoreFile(layout="wide", models=("m",), prompt_ids=ids, outcomes=(rng.random((400, 1)) < 0.5).astype(float))
    words = tuple(" ".join(f"w{word}" for word in rng.integers(300, size=30)) for _ in range(400))
    assert model_qualities(fit_scores(noise, words))["m"].auc < 0.6
    with pytest.raises(InputError, match="folds is 401"):
        fit_scores(source, texts, folds=401)
    with pytest.raises(InputError, match="cannot be learned from"):
        fit_scores(source, ("",) * 400)
