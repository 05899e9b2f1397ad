"""Observation → embedding, one file a kind. ``make("vector", spec=spec)`` builds one by name."""

from worldmodel.encoders.base import Encoder, EncoderConfig, Patches, encoders
from worldmodel.encoders.convolution import ConvolutionalEncoder, ConvolutionalEncoderConfig
from worldmodel.encoders.patches import PatchEncoder, PatchEncoderConfig
from worldmodel.encoders.several import SeveralEncoder, SeveralEncoderConfig
from worldmodel.encoders.text import TextEncoder, TextEncoderConfig
from worldmodel.encoders.vector import VectorEncoder, VectorEncoderConfig

make = encoders.make

__all__ = [
    "ConvolutionalEncoder",
    "ConvolutionalEncoderConfig",
    "Encoder",
    "EncoderConfig",
    "PatchEncoder",
    "PatchEncoderConfig",
    "Patches",
    "SeveralEncoder",
    "SeveralEncoderConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "VectorEncoder",
    "VectorEncoderConfig",
    "encoders",
    "make",
]
