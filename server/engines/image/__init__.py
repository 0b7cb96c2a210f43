"""The torch engine: one denoise loop of our own over the models of diffusers and transformers."""
