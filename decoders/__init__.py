"""Artifacts, the decoder contract, and the decoders."""
