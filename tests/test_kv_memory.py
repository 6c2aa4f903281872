import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.errors import InputError
from latency_models.memory.kv_memory import GIB, KvShape, num_kv_blocks

LLAMA_13B = KvShape(layers=40, kv_heads=40, head_dim=128)
LLAMA_70B = KvShape(layers=80, kv_heads=8, head_dim=128)
A100 = 80 * GIB


def test_bytes_per_token_of_known_models():
    assert LLAMA_13B.bytes_per_token() == 819_200
    assert LLAMA_70B.bytes_per_token() == 327_680
    assert KvShape(layers=80, kv_heads=8, head_dim=128, dtype_bytes=1).bytes_per_token() == 163_840


def test_shards_divide_the_heads_and_then_repeat_them():
    assert LLAMA_70B.bytes_per_token(4) == 81_920
    assert LLAMA_70B.bytes_per_token(16) == LLAMA_70B.bytes_per_token(8) == 40_960


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match=r"tp is 3; allowed: a divisor or a multiple of the 8 kv_heads"):
        LLAMA_70B.bytes_per_token(3)


def test_blocks_of_a_13b_model_on_one_gpu():
    blocks = num_kv_blocks(
        LLAMA_13B,
        weight_bytes=26e9,
        gpu_memory_bytes=A100,
        utilisation=0.9,
        activation_reserve_bytes=2e9,
    )
    assert blocks == int((80 * 2**30 * 0.9 - 26e9 - 2e9) / (16 * 819_200))


def test_tensor_parallel_shards_leave_more_than_twice_the_room():
    one = num_kv_blocks(LLAMA_13B, weight_bytes=26e9, gpu_memory_bytes=A100)
    two = num_kv_blocks(LLAMA_13B, weight_bytes=26e9, gpu_memory_bytes=A100, tp=2)
    assert two == int((A100 * 0.92 - 13e9) / (16 * 409_600))
    assert two > 2 * one


def test_a_share_of_the_gpu_gives_what_a_smaller_gpu_would():
    shared = num_kv_blocks(LLAMA_13B, weight_bytes=26e9, gpu_memory_bytes=A100, memory_share=0.5)
    assert shared == num_kv_blocks(LLAMA_13B, weight_bytes=26e9, gpu_memory_bytes=A100 / 2)


@given(
    memory=st.floats(1e9, 2e11),
    weights=st.floats(1e6, 1e11),
    reserve=st.floats(0, 1e10),
    share=st.floats(0.01, 1.0),
    tp=st.sampled_from([1, 2, 4, 8]),
    block_size=st.integers(1, 64),
)
def test_what_is_granted_is_never_exceeded_and_no_block_is_left_out(memory, weights, reserve, share, tp, block_size):
    shape = KvShape(layers=32, kv_heads=8, head_dim=128)
    block = block_size * shape.bytes_per_token(tp)
    room = memory * 0.92 * share - weights / tp - reserve
    try:
        blocks = num_kv_blocks(
            shape,
            weight_bytes=weights,
            gpu_memory_bytes=memory,
            tp=tp,
            memory_share=share,
            activation_reserve_bytes=reserve,
            block_size=block_size,
        )
    except InputError:
        assert room < 2 * block * (1 + 1e-9)
    else:
        assert blocks >= 2
        assert blocks * block <= room * (1 + 1e-9)
        assert (blocks + 1) * block >= room * (1 - 1e-9)


def test_a_model_that_does_not_fit_names_sizes_and_a_tp_that_does():
    with pytest.raises(InputError) as caught:
        num_kv_blocks(LLAMA_70B, weight_bytes=140 * GIB, gpu_memory_bytes=A100, model="llama-70b")
    message = str(caught.value)
    assert "llama-70b does not fit" in message
    assert "73.60 GiB of each GPU (80.00 GiB x utilisation 0.92 x share 1)" in message
    assert "140.00 GiB of weights (tp 1)" in message
    assert "raise tp to 2" in message
    num_kv_blocks(LLAMA_70B, weight_bytes=140 * GIB, gpu_memory_bytes=A100, tp=2)


def test_no_tp_is_suggested_when_none_helps():
    with pytest.raises(InputError, match="larger GPU") as caught:
        num_kv_blocks(LLAMA_70B, weight_bytes=1e9, gpu_memory_bytes=GIB, activation_reserve_bytes=4 * GIB)
    assert "raise tp" not in str(caught.value)


def test_one_sequence_of_max_model_len_must_fit_beside_the_null_block():
    sizes = {"weight_bytes": 26e9, "gpu_memory_bytes": A100, "tp": 1}
    blocks = num_kv_blocks(LLAMA_13B, **sizes)
    longest = (blocks - 1) * 16
    assert num_kv_blocks(LLAMA_13B, **sizes, max_model_len=longest) == blocks
    with pytest.raises(InputError, match=f"lower max_model_len to {longest} or less"):
        num_kv_blocks(LLAMA_13B, **sizes, max_model_len=longest + 1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["weight_bytes", "gpu_memory_bytes", "utilisation", "memory_share"])
def test_bad_amounts_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"{name} is"):
        num_kv_blocks(LLAMA_13B, **{"weight_bytes": 26e9, "gpu_memory_bytes": A100, name: value})


@pytest.mark.parametrize("name", ["utilisation", "memory_share"])
def test_a_share_above_one_is_refused(name):
    with pytest.raises(InputError, match=rf"{name} is 1\.01; allowed: a share of the GPU"):
        num_kv_blocks(LLAMA_13B, weight_bytes=26e9, gpu_memory_bytes=A100, **{name: 1.01})


@pytest.mark.parametrize(
    ("name", "value"),
    [("tp", 0), ("block_size", 0), ("max_model_len", 0), ("activation_reserve_bytes", -1.0), ("tp", True)],
)
def test_bad_counts_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"{name} is"):
        num_kv_blocks(LLAMA_13B, **{"weight_bytes": 26e9, "gpu_memory_bytes": A100, name: value})


@pytest.mark.parametrize("field", ["layers", "kv_heads", "head_dim", "dtype_bytes"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_shape_without_size_is_refused(field, value):
    with pytest.raises(InputError, match=field):
        KvShape(**{"layers": 40, "kv_heads": 40, "head_dim": 128, field: value})
