"""superlink: one multimodal LLM drives separate vision decoders through super-links."""

__version__ = "0.1.0"
