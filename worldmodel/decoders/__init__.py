"""Latent features → observation, for reconstruction and for looking; one file a kind."""

from worldmodel.decoders.base import Decoder, DecoderConfig, decoders
from worldmodel.decoders.image import ImageDecoder, ImageDecoderConfig
from worldmodel.decoders.several import SeveralDecoder, SeveralDecoderConfig
from worldmodel.decoders.vector import VectorDecoder, VectorDecoderConfig

make = decoders.make

__all__ = [
    "Decoder",
    "DecoderConfig",
    "ImageDecoder",
    "ImageDecoderConfig",
    "SeveralDecoder",
    "SeveralDecoderConfig",
    "VectorDecoder",
    "VectorDecoderConfig",
    "decoders",
    "make",
]
