"""Pretrained weights: a folder with `model.safetensors`, `config.json` and a model card."""

from adit.weights.store import Pretrained, SamplingDefaults, load_pretrained, save_pretrained

__all__ = ["Pretrained", "SamplingDefaults", "load_pretrained", "save_pretrained"]
