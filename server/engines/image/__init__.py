"""Pictures with torch: Stable Diffusion checkpoints, one denoise loop over the models of diffusers and transformers.

| step | files |
|---|---|
| a file becomes modules | `diffusion` (the engine), `checkpoint`, `layouts/`, `tensor_files`, `placement`, `skips` |
| a prompt becomes conditioning | `conditioning`, `chunks`, `text_encoding`, `clip/`, `embeddings` |
| a job runs | `picture_job`, `denoise` (the loop and its named points), `guidance`, `denoisers`, `samplers/` |
| numbers it runs on | `schedules`, `sigma_table`, `seeds`, `generators`, `philox`, `brownian` |
| pictures come in | `input_pictures`, `init_images`, `resizing`, `masks`, `mask_blur`, `beginnings`, `request_checks` |
| a mask keeps the rest | `inpaint`, `soft_inpainting`, `finishing`, `colour_correction` |
| around it | `adapters`, `lora`, `lora_kinds`, `hires`, `tiling` |
| latents become pictures | `vae`, `vae_choice`, `pictures`, `preview` |

Semantics are A1111's 1.10, checked against its recorded pictures.
"""
