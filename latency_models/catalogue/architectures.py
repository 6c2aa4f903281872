"""Model architectures: the sizes in a Hugging Face ``config.json`` that decide work and memory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_models.catalogue.entries import find_entry
from latency_models.catalogue.weight_formats import format_of, weight_format
from latency_models.errors import InputError, check_count, check_finite, invalid

_ENTRY_KEYS = ("config", "parameters", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes of a decoder-only transformer.

    Parameters
    ----------
    name : str
        Name in the catalogue, or of the file.
    layers, hidden, heads, kv_heads, head_dim, vocabulary : int
        Transformer layers, width, query heads, key-value heads, dimension of a head, tokens of the vocabulary.
    intermediate : int
        Width inside the MLP of a layer that is no mixture of experts; 0 if all layers are mixtures.
    gated_mlp : bool
        Three matrices (gate, up, down) or two (up, down).
    tied_embeddings : bool
        Whether the LM head is the embedding matrix.
    positions : int
        Learned position embeddings; 0 for rotary ones.
    moe_layers, experts, experts_per_token, expert_intermediate, shared_intermediate : int
        Layers that are mixtures, experts of each, experts that a token uses, width inside one, and width of the part
        that every token uses; all 0 without a mixture.
    window, window_layers : int
        Sliding attention window in tokens, and layers that have it.
    weights : str
        Format of the checkpoint's weights (:data:`latency_models.catalogue.weight_formats.WEIGHT_FORMATS`).
    source : str
        Where this is from.

    Raises
    ------
    InputError
        A size is no positive integer, or sizes contradict each other.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    intermediate: int = 0
    gated_mlp: bool = True
    tied_embeddings: bool = False
    positions: int = 0
    moe_layers: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0
    window: int = 0
    window_layers: int = 0
    weights: str = "bf16"
    source: str = ""

    def __post_init__(self) -> None:
        for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocabulary"):
            check_count(f"{self.name}: {key}", getattr(self, key))
        for key in ("intermediate", "positions", "moe_layers", "shared_intermediate", "window", "window_layers"):
            check_count(f"{self.name}: {key}", getattr(self, key), minimum=0)
        if self.heads % self.kv_heads:
            raise invalid(f"{self.name}: kv_heads", self.kv_heads, f"a divisor of the {self.heads} heads")
        if max(self.moe_layers, self.window_layers) > self.layers:
            raise invalid(f"{self.name}: layers", self.layers, "at least as many as mixtures and windows in them")
        if self.moe_layers:
            for key in ("experts", "experts_per_token", "expert_intermediate"):
                check_count(f"{self.name}: {key}", getattr(self, key))
            if self.experts_per_token > self.experts:
                raise invalid(f"{self.name}: experts_per_token", self.experts_per_token, f"at most {self.experts}")
        if self.moe_layers < self.layers:
            check_count(f"{self.name}: intermediate", self.intermediate)
        weight_format(self.weights)

    @property
    def attention_parameters(self) -> int:
        """Weights of a layer's query, key, value and output projections."""
        return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def mlp_parameters(self) -> int:
        """Weights of the MLP of a layer without experts."""
        return (3 if self.gated_mlp else 2) * self.hidden * self.intermediate

    @property
    def expert_parameters(self) -> int:
        """Weights of one expert of one layer."""
        return 3 * self.hidden * self.expert_intermediate

    @property
    def shared_parameters(self) -> int:
        """Weights of a mixture's part that every token uses, with its router, in one layer."""
        return 3 * self.hidden * self.shared_intermediate + self.hidden * self.experts

    @property
    def head_parameters(self) -> int:
        """Weights of the LM head."""
        return self.hidden * self.vocabulary

    @property
    def embedding_parameters(self) -> int:
        """Weights that are looked up, or only kept: embeddings beside the LM head, positions and norms."""
        table = 0 if self.tied_embeddings else self.head_parameters
        return table + self.hidden * (self.positions + 2 * self.layers + 1)

    @property
    def parameters(self) -> int:
        """All parameters; biases, below 0.1 %, are left out."""
        return (
            self.layers * self.attention_parameters
            + (self.layers - self.moe_layers) * self.mlp_parameters
            + self.moe_layers * (self.experts * self.expert_parameters + self.shared_parameters)
            + self.head_parameters
            + self.embedding_parameters
        )


def find_architecture(name_or_path: str | Path, extra: Path | None = None) -> Architecture:
    """The architecture of a name or alias in the catalogue, or of a ``config.json``.

    Parameters
    ----------
    name_or_path : str or Path
        ``"llama-3.1-8b"``, ``"meta-llama/Llama-3.1-8B"``, or the path of a JSON file.
    extra : Path, optional
        A user's catalogue (YAML, key ``architectures``), which goes before the shipped one.

    Raises
    ------
    InputError
        Nothing is found, the file cannot be read, or the architecture is not supported.
    """
    if str(name_or_path).endswith(".json"):
        return _from_json(Path(name_or_path))
    name, entry = find_entry("architectures", "model architecture", str(name_or_path), extra)
    for key in entry:
        if key not in _ENTRY_KEYS:
            raise invalid(f"architectures.{name}", key, f"the keys {', '.join(_ENTRY_KEYS)} and aliases")
    architecture = architecture_of(entry.get("config"), name, source=str(entry.get("source", "")))
    if "parameters" in entry:
        published = check_finite(f"architectures.{name}.parameters", entry["parameters"], exclusive=True)
        if abs(architecture.parameters / published - 1.0) > 0.02:
            raise invalid(
                f"architectures.{name}.parameters",
                entry["parameters"],
                f"within 2 % of {architecture.parameters}, which follows from its config",
            )
    return architecture


def _from_json(path: Path) -> Architecture:
    try:
        config = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"cannot read model config {path}: {error}") from None
    return architecture_of(config, str(path), source=str(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of whose equal keys Python would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return found


def architecture_of(config: object, name: str, *, source: str = "") -> Architecture:
    """The architecture that the keys of a Hugging Face ``config.json`` describe.

    Parameters
    ----------
    config : mapping
        The file's content.
    name : str
        Name of the model, for messages.
    source : str
        Where it is from.

    Raises
    ------
    InputError
        An unsupported kind of model, or a missing or wrong key: the message names the key.
    """
    if not isinstance(config, Mapping):
        raise invalid(f"{name}: config", _shown(config), "the keys of a Hugging Face config.json")
    kind = config.get("model_type")
    for key, reason in _UNSUPPORTED_KEYS.items():
        if config.get(key):
            allowed = f"no such key, as {reason} is not supported"
            raise invalid(f"{name}: {key}", _shown(config[key]), allowed, _USE_A_MEASUREMENT)
    other_layers = _keys_of_other_layers(config)
    if kind not in _SUPPORTED:
        advice = _USE_A_MEASUREMENT
        if not other_layers and all(config.get(key) for key in _LLAMA_KEYS):
            advice = "If its layers are those of a Llama (attention, gated MLP), set model_type to llama"
        raise invalid(f"{name}: model_type", kind, f"one of {', '.join(sorted(_SUPPORTED))}", advice)
    if kind not in _EXPERTS_KEY and other_layers:
        key = other_layers[0]
        allowed = f"no such key with model_type {kind}, whose layers are all attention and a dense MLP"
        raise invalid(f"{name}: {key}", _shown(config[key]), allowed, _USE_A_MEASUREMENT)
    if kind == "opt":
        return _opt(config, name, source)
    heads = _size(config, name, "num_attention_heads")
    hidden = _size(config, name, "hidden_size")
    layers = _size(config, name, "num_hidden_layers")
    window, window_layers = _window(config, name, kind, layers)
    return Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_size(config, name, "num_key_value_heads", default=heads),
        head_dim=_head_dim(config, name, hidden, heads),
        vocabulary=_size(config, name, "vocab_size"),
        gated_mlp=kind != "starcoder2",
        tied_embeddings=bool(config.get("tie_word_embeddings", kind in _TIED)),
        window=window,
        window_layers=window_layers,
        weights=format_of(config.get("quantization_config"), name),
        source=source,
        **_mlp(config, name, kind, layers),
    )


_USE_A_MEASUREMENT = "Use a latency model that is fitted to measurements, and give engine.num_gpu_blocks"
_UNSUPPORTED_KEYS = {
    "is_encoder_decoder": "an encoder-decoder",
    "kv_lora_rank": "multi-head latent attention (DeepSeek)",
    "ssm_cfg": "a state space",
    "state_size": "a state space",
    "mamba_d_state": "a state space",
    "mamba_num_heads": "a state space",
    "linear_num_key_heads": "linear attention",
    "vision_config": "a vision tower (take its text_config as the config.json)",
    "text_config": "a nested text model (take its text_config as the config.json)",
    "block_configs": "a shape that changes from layer to layer",
}
_LLAMA_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_OTHER_LAYERS = re.compile("mamba|ssm|rwkv|lru_|conv_|attn_layer|block_type|hybrid|recurrent|expert|linear_")
"""What keys of state spaces, convolutions, linear attention and mixtures have in their names."""
_EXPERTS_KEY = {
    "mixtral": "num_local_experts",
    "minimax_m2": "num_local_experts",
    "gpt_oss": "num_local_experts",
    "qwen2_moe": "num_experts",
    "qwen3_moe": "num_experts",
}
_SUPPORTED = {
    *("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text", "starcoder2", "opt"),
    *_EXPERTS_KEY,
}
_TIED = {"gemma", "gemma2", "gemma3_text", "starcoder2", "opt"}
_HEAD_DIM = {"gemma": 256, "gemma2": 256, "gemma3_text": 256}
"""Where the default is not the width over the heads."""
_FULL_EVERY = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6}
"""One layer in so many sees everything, the others have a window; elsewhere all have it."""


def _shown(value: object) -> object:
    """A value for a message, which would be flooded by a section."""
    return "a section" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else value


def _keys_of_other_layers(config: Mapping[str, Any]) -> list[str]:
    """Keys that speak of layers other than attention and a dense MLP; one expert is a dense MLP."""
    named = [key for key in config if _OTHER_LAYERS.search(key)]
    return [key for key in named if config[key] and (config[key] is True or config[key] != 1)]


def _size(config: Mapping[str, Any], name: str, key: str, *, default: int | None = None, minimum: int = 1) -> int:
    value = config.get(key)
    if value is None:
        if default is None:
            raise InputError(f"{name}: the key {key!r} is missing; allowed: a Hugging Face config.json with it")
        return default
    return check_count(f"{name}: {key}", value, minimum=minimum)


def _head_dim(config: Mapping[str, Any], name: str, hidden: int, heads: int) -> int:
    if config.get("model_type") in _HEAD_DIM:
        return _size(config, name, "head_dim", default=_HEAD_DIM[config["model_type"]])
    if config.get("head_dim") is None and hidden % heads:
        raise invalid(f"{name}: hidden_size", hidden, f"a multiple of num_attention_heads, {heads}", "Or give head_dim")
    return _size(config, name, "head_dim", default=hidden // heads)


def _mlp(config: Mapping[str, Any], name: str, kind: str, layers: int) -> dict[str, int]:
    """Sizes of the MLPs and mixtures, as fields of :class:`Architecture`."""
    if kind not in _EXPERTS_KEY:
        return {"intermediate": _size(config, name, "intermediate_size")}
    own_width = kind in ("qwen2_moe", "qwen3_moe")
    stride = _size(config, name, "decoder_sparse_step", default=1)
    dense_layers = set(config.get("mlp_only_layers") or ())
    mixtures = sum(1 for layer in range(layers) if layer not in dense_layers and (layer + 1) % stride == 0)
    return {
        "intermediate": _size(config, name, "intermediate_size") if mixtures < layers else 0,
        "moe_layers": mixtures,
        "experts": _size(config, name, _EXPERTS_KEY[kind]),
        "experts_per_token": _size(config, name, "num_experts_per_tok"),
        "expert_intermediate": _size(config, name, "moe_intermediate_size" if own_width else "intermediate_size"),
        "shared_intermediate": _size(config, name, "shared_expert_intermediate_size", default=0, minimum=0),
    }


def _window(config: Mapping[str, Any], name: str, kind: str, layers: int) -> tuple[int, int]:
    """Sliding window in tokens, and in how many layers."""
    window = _size(config, name, "sliding_window", default=0, minimum=0)
    if not window or config.get("use_sliding_window") is False:
        return 0, 0
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return window, sum(1 for layer_kind in kinds if layer_kind == "sliding_attention")
    if kind not in _FULL_EVERY:
        return window, layers
    return window, layers - layers // _size(config, name, "sliding_window_pattern", default=_FULL_EVERY[kind])


def _opt(config: Mapping[str, Any], name: str, source: str) -> Architecture:
    hidden = _size(config, name, "hidden_size")
    heads = _size(config, name, "num_attention_heads")
    if _size(config, name, "word_embed_proj_dim", default=hidden) != hidden:
        raise invalid(f"{name}: word_embed_proj_dim", config["word_embed_proj_dim"], f"hidden_size, {hidden}")
    return Architecture(
        name=name,
        layers=_size(config, name, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=_head_dim(config, name, hidden, heads),
        vocabulary=_size(config, name, "vocab_size"),
        intermediate=_size(config, name, "ffn_dim"),
        gated_mlp=False,
        tied_embeddings=True,
        # OPT offsets its positions by two.
        positions=_size(config, name, "max_position_embeddings") + 2,
        weights=format_of(config.get("quantization_config"), name),
        source=source,
    )
