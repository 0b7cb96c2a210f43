"""Room around pictures that is to be painted: canvases with their masks, and noise that looks like the picture.

Needs NumPy and Pillow alone. Measures are those of A1111's scripts `outpainting mk2` and `poor man's outpainting`.
"""
