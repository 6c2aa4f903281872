"""The prefix cache against a plain model of vLLM's, block by block and token by token."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim.kv_cache.content_keys
from sim.kv_cache.content_keys import KEYS_PER_BLOCK, ContentKeys, KeyChain
from sim.kv_cache.free_queue import FEW, FreeQueue
from sim.kv_cache.prefix_cache import PrefixCache
from sim.request import DONE, PREEMPTED, RUNNING, Request
from sim.workload import RequestSpec

BLOCK_SIZE = 4

SEGMENTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 11)), min_size=1, max_size=5)


# ---------------------------------------------------------------------- free queue


@given(st.data())
def test_the_free_queue_keeps_vllms_order_in_bounded_memory(data):
    total = data.draw(st.sampled_from([1, 5, 3 * FEW]))
    queue = FreeQueue(total)
    expected = list(range(1, total + 1))
    withdrawable = set()
    taken = []
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["pop", "append", "append cached", "prepend", "withdraw"]))
        if action == "pop":
            count = data.draw(st.integers(0, len(expected)))
            popped = queue.pop(count)
            assert popped == expected[:count]
            del expected[:count]
            withdrawable -= set(popped)
            taken += popped
        elif action == "withdraw":
            gone = [block for block in expected if block in withdrawable and data.draw(st.booleans())]
            if gone:
                queue.withdraw(np.array(gone[:: data.draw(st.sampled_from([1, -1]))]))
            expected = [block for block in expected if block not in gone]
            withdrawable -= set(gone)
            taken += gone
        else:
            count = data.draw(st.integers(0, len(taken)))
            blocks, taken = taken[:count], taken[count:]
            if action == "append":
                queue.append(blocks)
                expected = expected + blocks
            elif action == "prepend":
                queue.prepend(blocks)
                expected = blocks + expected
            else:
                queue.append_cached(np.array(blocks, dtype=np.intp))
                expected = expected + blocks
                withdrawable |= set(blocks)
        assert queue.in_order() == expected
        assert queue.length <= 4 * total


def test_blocks_that_are_always_hit_again_do_not_fill_the_memory():
    queue = FreeQueue(100)
    prefix = np.array(queue.pop(80))
    for _ in range(50):
        queue.append_cached(prefix[::-1])
        assert queue.length <= 400
        queue.withdraw(prefix)
    assert queue.in_order() == list(range(81, 101))


# ---------------------------------------------------------------------- keys


def tokens_of(segments):
    return [(name, index) for name, length in segments for index in range(length)]


def keys_of(chain):
    return [key for first, end in chain.ranges for key in range(first, end)]


@given(st.lists(SEGMENTS, min_size=1, max_size=8), st.data())
def test_keys_are_equal_exactly_if_all_tokens_up_to_there_are(contents, data):
    keys = ContentKeys(1000, BLOCK_SIZE)
    chains = [KeyChain(segments) for segments in contents]
    tokens = [tokens_of(segments) for segments in contents]
    for index in data.draw(st.lists(st.integers(0, len(contents) - 1), max_size=8)):
        # Some are asked for a part first; that must not change anything.
        keys.extend(chains[index], data.draw(st.integers(0, len(tokens[index]) // BLOCK_SIZE)))
    key_of = {}
    for chain, content in zip(chains, tokens, strict=True):
        blocks = len(content) // BLOCK_SIZE
        keys.extend(chain, blocks)
        assert chain.blocks == blocks == len(keys_of(chain))
        for number, key in enumerate(keys_of(chain), 1):
            assert key > 0
            assert key_of.setdefault(tuple(content[: number * BLOCK_SIZE]), key) == key
    assert len(set(key_of.values())) == len(key_of)


def test_neighbouring_stretches_are_one_range():
    keys = ContentKeys(100, BLOCK_SIZE)
    chain = KeyChain([("a", 10), ("b", 0), ("c", 3), ("d", 7)])
    keys.extend(chain, 5)
    assert chain.ranges == [(1, 6)]


def test_unused_keys_are_given_up():
    total = 50
    keys = ContentKeys(total, BLOCK_SIZE)
    shared = KeyChain([("system", 8 * BLOCK_SIZE), ("question", 2 * BLOCK_SIZE)])
    keys.extend(shared, 10)
    # Only the end is cached; what it follows must keep its keys all the same.
    keys.record(shared, 9, np.array([7]))
    most = 0
    for number in range(1000):
        chain = KeyChain([("system", 8 * BLOCK_SIZE), (f"private:{number}", 3 * BLOCK_SIZE)])
        keys.extend(chain, 11)
        most = max(most, keys.known)
    assert KEYS_PER_BLOCK * total < most <= KEYS_PER_BLOCK * total + 3 + 1
    again = KeyChain(shared.segments)
    keys.extend(shared, 10)
    keys.extend(again, 10)
    assert keys_of(again) == keys_of(shared)
    assert len(set(keys_of(again))) == 10
    assert keys.cached(again, 10).tolist() == []
    keys.record(again, 0, np.array([1, 2, 3, 4, 5, 6, 8, 9, 10]))
    assert keys.cached(shared, 10).tolist() == [1, 2, 3, 4, 5, 6, 8, 9, 10, 7]
    assert keys.cached(shared, 4).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("padding", [0, 2 * FEW])
def test_of_equal_blocks_the_one_recorded_first_is_found(padding):
    keys = ContentKeys(500, BLOCK_SIZE)
    chain = KeyChain([("a", 2 * BLOCK_SIZE)])
    keys.extend(chain, 2)
    others = list(range(100, 100 + padding))
    for block in (10, 20, 30, 40):
        keys.record(chain, 0, np.array([block, block + 1]))
    assert keys.cached(chain, 2).tolist() == [10, 11]
    keys.forget([*others, 20])
    assert keys.cached(chain, 2).tolist() == [10, 11]
    keys.forget([*others, 10])
    assert keys.cached(chain, 2).tolist() == [30, 11]
    keys.forget([40, *others, 30])
    assert keys.cached(chain, 2).tolist() == []
    keys.record(chain, 0, np.array([50]))
    assert keys.cached(chain, 2).tolist() == [50, 11]


# ---------------------------------------------------------------------- pool


class PlainPool:
    """vLLM's pool as its description reads: a block's hash is all tokens up to its end."""

    def __init__(self, total):
        self.queue = list(range(1, total + 1))
        self.holders = dict.fromkeys(self.queue, 0)
        self.hash_of = {}
        # Blocks by hash, in the order of their registration.
        self.blocks_of = {}
        self.tables = {}

    def look_up(self, tokens, limit):
        hits = []
        while len(hits) < limit:
            found = self.blocks_of.get(tuple(tokens[: (len(hits) + 1) * BLOCK_SIZE]))
            if not found:
                break
            hits.append(found[0])
        return hits

    def adopt(self, name, hits):
        for block in hits:
            if not self.holders[block]:
                self.queue.remove(block)
            self.holders[block] += 1
        self.tables[name] = list(hits)

    def take(self, name, count):
        for _ in range(count):
            block = self.queue.pop(0)
            self.holders[block] = 1
            self.tables[name].append(block)
            if block in self.hash_of:
                self.blocks_of[self.hash_of.pop(block)].remove(block)

    def register(self, name, tokens):
        for number, block in enumerate(self.tables[name][: len(tokens) // BLOCK_SIZE], 1):
            if block not in self.hash_of:
                self.hash_of[block] = key = tuple(tokens[: number * BLOCK_SIZE])
                self.blocks_of.setdefault(key, []).append(block)

    def release(self, name):
        freed = []
        for block in reversed(self.tables.pop(name)):
            self.holders[block] -= 1
            if not self.holders[block]:
                freed.append(block)
        self.queue = [
            *(block for block in freed if block not in self.hash_of),
            *self.queue,
            *(block for block in freed if block in self.hash_of),
        ]


class Both:
    """Drives a prefix cache and the plain pool side by side and compares them after every step."""

    def __init__(self, total):
        self.cache = PrefixCache(total, BLOCK_SIZE, lambda request: request.computed)
        self.plain = PlainPool(total)
        self.arrivals = 0

    def arrive(self, content, private_tokens, outputs):
        """A request with that content, then ``private_tokens`` of its own."""
        prompt_tokens = sum(length for _, length in content or ()) + private_tokens
        spec = RequestSpec(0.0, prompt_tokens, outputs, content=content)
        request = Request(self.arrivals, spec, 0.0, 10_000, f"r{self.arrivals}")
        self.arrivals += 1
        return request

    def tokens(self, request):
        name = request.name
        own = [(f"private:{name}", request.prompt_tokens), (f"out:{name}", request.max_outputs)]
        declared = tokens_of(request.content or ())
        return declared + tokens_of(own[:1])[: request.prompt_tokens - len(declared)] + tokens_of(own[1:])

    def admit(self, request):
        """Hits of the request, or None if there is no room for it."""
        tokens = self.tokens(request)
        hits, unheld = self.cache.look_up(request)
        expected = self.plain.look_up(tokens, (request.target - 1) // BLOCK_SIZE)
        assert hits == len(expected)
        assert unheld == sum(not self.plain.holders[block] for block in expected)
        needed = -(-request.target // BLOCK_SIZE) - hits
        if needed > self.cache.free - unheld:
            return None
        if hits:
            self.cache.adopt(request, hits)
        self.plain.adopt(request.name, expected)
        self.cache.take(request, needed)
        self.plain.take(request.name, needed)
        request.computed = request.target
        self.cache.register(request, request.computed)
        self.plain.register(request.name, tokens[: request.computed])
        request.state = RUNNING
        self.compare()
        return hits

    def decode(self, request, outputs):
        """Outputs are computed, as far as there are blocks for them."""
        needed = -(-(request.computed + outputs) // BLOCK_SIZE) - len(request.block_ids)
        if request.computed + outputs > request.prompt_tokens + request.max_outputs or needed > self.cache.free:
            return
        if needed:
            self.cache.take(request, needed)
            self.plain.take(request.name, needed)
        request.computed += outputs
        self.plain.register(request.name, self.tokens(request)[: request.computed])
        self.compare()

    def let_go(self, request, *, returns):
        self.cache.release(request, request.computed, returns)
        self.plain.release(request.name)
        request.state = PREEMPTED if returns else DONE
        if returns:
            request.preemptions += 1
            request.target = request.computed
            request.computed = 0
        self.compare()

    def compare(self):
        assert self.cache.free_queue() == self.plain.queue
        assert self.cache.free == len(self.plain.queue)


def drive(both, data, steps):
    """Random requests come, decode, are preempted, come back and finish; contents repeat and continue each other."""
    waiting = []
    running = []
    contents = [None, (("a", 9),), (("a", 9), ("b", 6))]
    for _ in range(steps):
        action = data.draw(st.sampled_from(["arrive", "admit", "admit", "decode", "preempt", "finish"]))
        if action == "arrive":
            content = data.draw(st.sampled_from(contents) | SEGMENTS.map(tuple))
            private = data.draw(st.integers(0 if content and tokens_of(content) else 1, 9))
            request = both.arrive(content, private, data.draw(st.integers(1, 12)))
            waiting.append(request)
            if content is not None and not private:
                contents.append((*content, (f"out:{request.name}", data.draw(st.integers(1, request.max_outputs)))))
        elif action == "admit" and waiting:
            request = waiting[data.draw(st.integers(0, len(waiting) - 1))]
            if both.admit(request) is not None:
                waiting.remove(request)
                running.append(request)
        elif running:
            request = running[data.draw(st.integers(0, len(running) - 1))]
            if action == "decode":
                both.decode(request, data.draw(st.integers(1, 6)))
            elif action in ("preempt", "finish"):
                running.remove(request)
                both.let_go(request, returns=action == "preempt")
                if action == "preempt":
                    waiting.append(request)
    for request in running:
        both.let_go(request, returns=False)
    assert both.cache.free == both.cache.total


@pytest.mark.parametrize("keys_per_block", [KEYS_PER_BLOCK, 0.05])
def test_the_cache_hits_and_evicts_what_vllm_does(monkeypatch, keys_per_block):
    # With few keys per block, keys are collected and renumbered again and again.
    monkeypatch.setattr(sim.kv_cache.content_keys, "KEYS_PER_BLOCK", keys_per_block)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def check(data):
        drive(Both(data.draw(st.sampled_from([20, 40]))), data, data.draw(st.integers(5, 60)))

    check()


@pytest.mark.parametrize("blocks", [3, 3 * FEW])
def test_a_prefix_is_shared_by_few_and_by_many_blocks(blocks):
    both = Both(4 * blocks + 20)
    content = (("system", blocks * BLOCK_SIZE),)
    first, second, third = (both.arrive(content, 5, 4) for _ in range(3))
    assert [both.admit(request) for request in (first, second)] == [0, blocks]
    both.let_go(first, returns=False)
    both.let_go(second, returns=True)
    # The one that comes back finds its private full block too.
    assert both.admit(second) == blocks + 1
    assert both.admit(third) == blocks
    # Somebody else takes everything that is free, and the prefix is lost once nobody holds it.
    both.let_go(second, returns=False)
    both.let_go(third, returns=False)
    everything = both.arrive(None, both.cache.total * BLOCK_SIZE, 1)
    assert both.admit(everything) == 0
    both.let_go(everything, returns=False)
    assert both.admit(both.arrive(content, 5, 4)) == 0


def test_the_next_turn_hits_the_answer():
    both = Both(40)
    first = both.arrive((("question", 10),), 0, 20)
    assert both.admit(first) == 0
    both.decode(first, 9)
    # While the answer is being made, a request that contains its start hits what is there already.
    early = both.arrive((("question", 10), ("out:r0", 9), ("more", 3)), 0, 4)
    assert both.admit(early) == 4
    both.decode(first, 8)
    both.let_go(first, returns=False)
    turns = [both.arrive((("question", 10), ("out:r0", count)), 1, 4) for count in (5, 17)]
    assert [both.admit(turn) for turn in turns] == [3, 6]


def test_a_request_can_go_to_another_pool():
    content = (("a", 9), ("b", 9))
    one, other = Both(20), Both(20)
    for name in "cde":
        other.admit(other.arrive(((name, 8),), 0, 1))
    moving = one.arrive(content, 0, 2)
    one.admit(moving)
    one.let_go(moving, returns=False)
    moving.name = "moved"
    assert other.admit(moving) == 0
    other.let_go(moving, returns=False)
    assert other.admit(other.arrive(content, 1, 2)) == 4


def test_memory_is_bounded_by_blocks_not_by_requests():
    both = Both(60)
    known = []
    for number in range(1500):
        request = both.arrive((("system", 24), (f"user {number}", 20)), 0, 3)
        both.admit(request)
        both.let_go(request, returns=False)
        known.append(both.cache._keys.known)
    assert max(known) <= KEYS_PER_BLOCK * 60 + 12
    assert any(later < earlier for earlier, later in pairwise(known))
    assert both.cache._queue.length <= 240
