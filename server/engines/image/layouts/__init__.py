"""What a single-file checkpoint is made of, told from the names and shapes of its tensors alone.

`family` tells which kind of model a file holds and where its parts begin; `unet`, `vae` and `text_encoder` infer the
architecture of one part and map its names to those of diffusers and transformers; `sidecar` reads the few things that
shapes cannot tell from a YAML file beside the checkpoint. Nothing here reads tensor values.
"""
