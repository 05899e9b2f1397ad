"""Observation → embedding, one file a kind. ``make("vector", spec=spec)`` builds one by name."""

from worldmodel.encoders.base import Encoder, EncoderConfig, encoders
from worldmodel.encoders.vector import VectorEncoder, VectorEncoderConfig

make = encoders.make

__all__ = ["Encoder", "EncoderConfig", "VectorEncoder", "VectorEncoderConfig", "encoders", "make"]
