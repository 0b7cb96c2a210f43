"""Trains `starter-image`: a tiny text-to-picture checkpoint in the layout of Stable Diffusion 1, from drawn scenes."""
