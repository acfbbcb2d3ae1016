"""Routing tokens, super-links, messages, the multimodal LLM, generation and checkpoints."""
