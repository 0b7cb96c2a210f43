"""The llama.cpp engine: continuous batching over the low-level interface."""
