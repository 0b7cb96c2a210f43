"""Benchmarks: both sides of every comparison run in one go, interleaved, and the ratio is printed with its spread."""
