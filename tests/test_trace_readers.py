"""Readers: each public format, unchanged; and every way a file can be wrong."""

import gzip
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from latency_models.errors import InputError
from scenarios.traces.readers import ReadOptions, ReadReport, read_trace
from scenarios.workloads.request_chunks import concatenate

PLAIN = "arrival_s,prompt_tokens,output_tokens\n0,10,5\n1.5,20,6\n1.5,30,7\n"


def read(path, format="auto", *, rows_per_chunk=16_384, report=None, rng=None, **options):
    chunks = list(
        read_trace(path, format, options=ReadOptions(**options), rows_per_chunk=rows_per_chunk, report=report, rng=rng)
    )
    return concatenate(chunks)


def write(tmp_path, text, name="trace.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def rows(chunk):
    return list(zip(chunk.arrival_s.tolist(), chunk.prompt_tokens.tolist(), chunk.output_tokens.tolist(), strict=True))


def test_plain_csv(tmp_path):
    chunk = read(write(tmp_path, PLAIN))
    assert rows(chunk) == [(0.0, 10, 5), (1.5, 20, 6), (1.5, 30, 7)]
    assert chunk.model is chunk.session is chunk.content is chunk.priority is None


def test_plain_csv_with_every_column(tmp_path):
    text = (
        "arrival_s,prompt_tokens,output_tokens,model,class,session,priority,deadline_s,cancel_after_s,request_id,"
        "prompt_row,note\n0,10,5,m1,chat,s1,2,30,9,a,7,x\n1,20,6,,,,,,,b,,y\n"
    )
    report = ReadReport()
    chunk = read(write(tmp_path, text), report=report)
    first, second = chunk.specs()
    assert first == (0.0, 10, 5, "a", "m1", "chat", "s1", 2, None, 30.0, 9.0, 7)
    assert second == (1.0, 20, 6, "b", None, None, None, 0, None, None, None, None)
    assert report.ignored_columns == ["note"]


def test_gzip_is_known_by_content_and_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "misnamed.csv"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + PLAIN.encode()))
    assert len(rows(read(path))) == 3


@pytest.mark.parametrize("rows_per_chunk", [1, 2, 3, 100])
def test_chunking_changes_nothing(tmp_path, rows_per_chunk):
    path = write(tmp_path, PLAIN)
    chunks = list(read_trace(path, rows_per_chunk=rows_per_chunk))
    assert max(len(chunk.arrival_s) for chunk in chunks) <= rows_per_chunk
    assert rows(concatenate(chunks)) == rows(read(path))


def test_a_reader_does_not_read_ahead(tmp_path):
    path = write(tmp_path, PLAIN + "broken\n")
    stream = read_trace(path, rows_per_chunk=1)
    assert rows(next(stream)) == [(0.0, 10, 5)]


def test_azure_2023(tmp_path):
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319569,3180,8\n"
    )
    report = ReadReport()
    chunk = read(write(tmp_path, text), report=report)
    assert report.format == "azure"
    assert rows(chunk) == [(0.0, 4808, 10), (pytest.approx(0.0519969, abs=1e-12), 3180, 8)]


def test_azure_2024_with_time_zones(tmp_path):
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00+00:00,1,1\n2024-05-10 00:00:00.5+00:00,2,2\n2024-05-10 02:00:01+02:00,3,3\n"
    )
    chunk = read(write(tmp_path, text))
    assert chunk.arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert read(write(tmp_path, text), rows_per_chunk=1).arrival_s.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("stamp", ["now", "", "NaT", "yesterday", "2024-13-01 00:00:00", "17", "2024"])
def test_azure_bad_date(tmp_path, stamp):
    text = f"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9,1,1\n{stamp},1,1\n"
    with pytest.raises(InputError, match="line 3, TIMESTAMP"):
        read(write(tmp_path, text))


def test_burstgpt_skips_and_counts_failures(tmp_path):
    text = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,API log\n118,GPT-4,417,276,693,API log\n"
    )
    report = ReadReport()
    chunk = read(write(tmp_path, text), report=report)
    assert rows(chunk) == [(0.0, 472, 18), (113.0, 417, 276)]
    assert chunk.model == ["ChatGPT", "GPT-4"]
    assert chunk.request_class == ["Conversation log", "API log"]
    assert (report.rows, report.failed, report.dropped_empty) == (3, 1, 0)


def mooncake(tmp_path, *rows):
    return write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "trace.jsonl")


def test_mooncake_blocks_become_segments(tmp_path):
    path = mooncake(
        tmp_path,
        {"timestamp": 0, "input_length": 1124, "output_length": 500, "hash_ids": [0, 1, 2]},
        {"timestamp": 3000, "input_length": 1024, "output_length": 490, "hash_ids": [0, 7]},
    )
    report = ReadReport()
    chunk = read(path, report=report)
    assert report.format == "mooncake"
    assert chunk.arrival_s.tolist() == [0.0, 3.0]
    assert chunk.content == [(("h0", 512), ("h1", 512), ("h2", 100)), (("h0", 512), ("h7", 512))]


def test_mooncake_with_other_block_size_and_with_too_many_blocks(tmp_path):
    path = mooncake(tmp_path, {"timestamp": 0, "input_length": 20, "output_length": 5, "hash_ids": [4, 5]})
    assert read(path, block_tokens=16).content == [(("h4", 16), ("h5", 4))]
    with pytest.raises(InputError, match=r"line 1, hash_ids is '2 blocks'.*at most 1 blocks of 512"):
        read(path)


def test_spreading_a_coarse_clock(tmp_path):
    path = mooncake(
        tmp_path,
        *({"timestamp": 3000 * (i // 50), "input_length": i + 1, "output_length": 5} for i in range(1000)),
    )
    raw = read(path)
    for rows_per_chunk in (7, 1000):
        spread = read(path, spread_s=3.0, rng=np.random.default_rng(3), rows_per_chunk=rows_per_chunk)
        delay = spread.arrival_s - raw.arrival_s[spread.prompt_tokens - 1]
        assert sorted(spread.prompt_tokens.tolist()) == list(range(1, 1001))
        assert (np.diff(spread.arrival_s) >= 0).all()
        assert delay.min() >= 0
        assert delay.max() < 3
        # Uniform on [0, 3): standard error of the mean is 3 / sqrt(12 n) = 0.027.
        assert delay.mean() == pytest.approx(1.5, abs=5 * 0.027)
    with pytest.raises(InputError, match="random generator"):
        read_trace(path, options=ReadOptions(spread_s=3.0))


def bench(tmp_path, **changes):
    document = {
        "request_throughput": 1.0,
        "input_lens": [3, 4, 5],
        "output_lens": [7, 8, 9],
        "start_times": [100.5, 100.25, 101.0],
        "errors": ["", "", ""],
    } | changes
    return write(tmp_path, json.dumps({key: value for key, value in document.items() if value is not None}), "b.json")


def test_vllm_bench_is_sorted_and_rebased(tmp_path):
    assert rows(read(bench(tmp_path))) == [(0.0, 4, 8), (0.25, 3, 7), (0.75, 5, 9)]


def test_vllm_bench_failures(tmp_path):
    report = ReadReport()
    chunk = read(bench(tmp_path, errors=["", "timeout", ""]), report=report)
    assert rows(chunk) == [(0.0, 3, 7), (0.5, 5, 9)]
    assert report.failed == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_times": None}, "no list start_times.*save-detailed"),
        ({"input_lens": [1]}, "different lengths"),
        ({"input_lens": [1, float("nan"), 2]}, "request 2, input_lens"),
    ],
)
def test_vllm_bench_bad(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read(bench(tmp_path, **changes))


def test_jsonl_with_keys_that_only_some_lines_have(tmp_path):
    path = write(
        tmp_path,
        '{"arrival_s": 0, "prompt_tokens": 3, "output_tokens": 4}\n\n'
        '{"arrival_s": 1, "prompt_tokens": 3, "output_tokens": 4, "session": "s"}\n',
        "t.jsonl",
    )
    assert read(path).session == [None, "s"]


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "trace.parquet"
    table = {"arrival_s": [0.0, 1.0], "input_tokens": [3, 4], "output_tokens": [5, 6], "model": ["m", None]}
    parquet.write_table(pa.table(table), path)
    chunk = read(path, rows_per_chunk=1)
    assert rows(chunk) == [(0.0, 3, 5), (1.0, 4, 6)]
    assert chunk.model == ["m", None]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read(path)


def test_order(tmp_path):
    path = write(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,1,1\n5,2,2\n4,3,3\n")
    for rows_per_chunk in (1, 2, 10):
        with pytest.raises(InputError, match=r"line 4, arrival_s is '4'.*sort"):
            read(path, rows_per_chunk=rows_per_chunk)
    assert read(path, sort=True, rows_per_chunk=2).prompt_tokens.tolist() == [1, 3, 2]


def test_rebase(tmp_path):
    path = write(tmp_path, "arrival_s,prompt_tokens,output_tokens\n100,1,1\n105,2,2\n")
    assert read(path).arrival_s.tolist() == [100, 105]
    assert read(path, rebase=True).arrival_s.tolist() == [0, 5]
    dated = write(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,1\n")
    with pytest.raises(InputError, match="rebase"):
        read(dated, rebase=False)


def test_where(tmp_path):
    text = "run,arrival_s,prompt_tokens,output_tokens\na,3,1,1\nb,0,2,2\nb,1,3,3\n"
    path = write(tmp_path, text)
    assert rows(read(path, where={"run": "b"})) == [(0.0, 2, 2), (1.0, 3, 3)]
    with pytest.raises(InputError, match="run: NAME"):
        read(path)
    with pytest.raises(InputError, match="did you mean 'run'"):
        read(path, where={"runs": "b"})
    with pytest.raises(InputError, match="no request"):
        read(path, where={"run": "c"})


def test_drop_empty(tmp_path):
    path = write(tmp_path, PLAIN + "2,7,0\n3,0,7\n")
    with pytest.raises(InputError, match=r"line 5, output_tokens is 0.*drop_empty"):
        read(path)
    report = ReadReport()
    assert len(rows(read(path, drop_empty=True, report=report))) == 3
    assert report.dropped_empty == 2


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "1.5", "1e300", "x", "", "99999999999"])
@pytest.mark.parametrize("column", [1, 2])
def test_bad_length(tmp_path, value, column):
    row = ["2", "10", "5"]
    row[column] = value
    with pytest.raises(InputError, match=r"line 5, (prompt|output)_tokens is"):
        read(write(tmp_path, PLAIN + ",".join(row) + "\n"))


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "", "noon"])
def test_bad_arrival(tmp_path, value):
    with pytest.raises(InputError, match="line 2, arrival_s is"):
        read(write(tmp_path, f"arrival_s,prompt_tokens,output_tokens\n{value},1,1\n"))


@pytest.mark.parametrize(("column", "value"), [("priority", "0.5"), ("priority", "inf"), ("deadline_s", "0"),
                                               ("deadline_s", "nan"), ("deadline_s", "-3")])  # fmt: skip
def test_bad_optional_value(tmp_path, column, value):
    text = f"arrival_s,prompt_tokens,output_tokens,{column}\n0,1,1,\n1,1,1,{value}\n"
    with pytest.raises(InputError, match=f"line 3, {column}"):
        read(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("arrival_s,prompt_tokens,output_tokens\n", "holds no request"),
        ("time,prompt,answer\n1,2,3\n", "no column arrival_s, prompt_tokens, output_tokens.*found: 'time', 'prompt'"),
        (PLAIN + "2,7\n", "line 5 has 2 fields; the header has 3"),
        ("arrival_s,arrival_s,prompt_tokens,output_tokens\n0,0,1,1\n", "more than once"),
        ("arrival_s,input_len,input_tokens,output_tokens\n0,1,1,1\n", "several columns for prompt_tokens"),
        ("[1, 2]", "JSON array"),
        ('{"arrival_s": 0, "prompt_tokens": 3, "output_tokens": 4}\n{"arrival_s": 1, "pro', "line 2 is not valid JSON"),
        ('{"arrival_s": 0, "prompt_tokens": 3, "output_tokens": 4}\n7\n', "line 2 is '7'"),
        ('{"arrival_s": 0, "prompt_tokens": 3, "output_tokens": 4}\n{"arrival_s": 1, "prompt_tokens": 3}\n', "line 2"),
        ('{"input_lens": [1, 2', "not valid JSON"),
    ],
)
def test_bad_file(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path, text))


def test_unreadable_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a directory"):
        read_trace(tmp_path)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not text"):
        read_trace(tmp_path / "binary")
    packed = gzip.compress(PLAIN.encode() * 2000, compresslevel=0)
    (tmp_path / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="truncated"):
        read(tmp_path / "cut.csv.gz")


def test_misnamed_format(tmp_path):
    path = write(tmp_path, PLAIN)
    with pytest.raises(InputError, match="format azure needs TIMESTAMP, ContextTokens, GeneratedTokens"):
        read(path, "azure")
    with pytest.raises(InputError, match="did you mean 'azure'"):
        read(path, "azur")
    with pytest.raises(InputError, match="is text, not parquet"):
        read(path, "parquet")
    with pytest.raises(InputError, match="lists no blocks"):
        read(path, block_tokens=16)


def test_real_azure(data_root):
    for name, count in (("code", 6621), ("conv", 12337)):
        chunk = read(data_root / f"data/azure_llm_2023/azure_2023_{name}_first35min.csv", rows_per_chunk=1000)
        assert len(chunk.arrival_s) == count
        assert chunk.arrival_s[-1] < 2100


def test_real_azure_in_its_public_format(data_root, tmp_path):
    known = read(data_root / "data/azure_llm_2023/azure_2023_code_first35min.csv")
    start = datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for second, prompt, output in rows(known):
        lines.append(f"{start + timedelta(seconds=second):%Y-%m-%d %H:%M:%S.%f}0,{prompt},{output}")
    chunk = read(write(tmp_path, "\n".join(lines) + "\n"))
    np.testing.assert_allclose(chunk.arrival_s, known.arrival_s, atol=2e-6)
    np.testing.assert_array_equal(chunk.output_tokens, known.output_tokens)


def test_real_mooncake(data_root):
    chunk = read(data_root / "data/mooncake_traces/conversation_first40min.csv.gz")
    assert len(chunk.arrival_s) == 7851
    for prompt, content in zip(chunk.prompt_tokens.tolist(), chunk.content, strict=True):
        assert sum(tokens for _, tokens in content) == prompt
        assert content[-1][1] <= 512


def test_real_bench_result(data_root):
    chunk = read(data_root / "vllm_engine/api_server/bench_rate6.json")
    assert len(chunk.arrival_s) == 240
    assert int(chunk.prompt_tokens.sum()) == 49239
    assert int(chunk.output_tokens.sum()) == 12191


@pytest.mark.parametrize(
    ("path", "count", "options"),
    [
        ("apex_vllm_h100/requests.csv.gz", 401, {"where": {"run": "llama_creation_025_2DP4TP_0"}}),
        ("blis_vllm_h100/codellama34b_tp1_train.csv", 280, {}),
        ("llmservingsim_vllm/RTXPRO6000_Llama-3.1-8B.requests.csv", 300, {}),
        ("inferencex_vllm_b200/llama33_70b_fp4_tp1_c16.csv.gz", None, {"drop_empty": True}),
    ],
)
def test_other_real_traces(data_root, path, count, options):
    report = ReadReport()
    chunk = read(data_root / "data" / path, report=report, **options)
    assert len(chunk.arrival_s) == (count or report.rows - report.dropped_empty)
    assert (np.diff(chunk.arrival_s) >= 0).all()


@pytest.mark.parametrize("row", ["-1", "1.5", "nan", "first"])
def test_a_prompt_row_is_a_number_of_a_row(tmp_path, row):
    text = f"arrival_s,prompt_tokens,output_tokens,prompt_row\n0,10,5,{row}\n"
    with pytest.raises(InputError, match="prompt_row"):
        read(write(tmp_path, text))
