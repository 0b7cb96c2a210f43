"""Pictures with torch: Stable Diffusion 1, 2 and XL, one denoise loop over the models of diffusers and transformers.

| step | files |
|---|---|
| a file becomes modules | `diffusion`, `checkpoint`, `single_file`, `folder`, `building`, `loaded`, `layouts/` |
| | `tensor_files`, `text_tower`, `prediction` (noise or velocity), `skips` |
| modules sit on a device | `placement`, `offload` (who moves when), `headroom` (what fits), `unet_call`, `vae_tiles` |
| a prompt becomes conditioning | `text_stack`, `prompts`, `conditioning`, `chunks`, `text_encoding`, `clip/` |
| words of one's own | `embeddings`, `picture_embeddings` |
| a job runs | `picture_job`, `parts`, `job_prompts`, `denoise` (the loop), `guidance`, `denoisers`, `samplers/` |
| numbers it runs on | `schedules`, `sigma_table`, `seeds`, `generators`, `philox`, `brownian` |
| pictures come in | `init_images`, `resizing`, `masks`, `mask_blur`, `beginnings`, `request_checks` |
| a mask keeps the rest | `inpaint`, `soft_inpainting`, `finishing`, `colour_correction` |
| a picture is followed | `control/` (ControlNet), `preprocess/` (maps, without torch) |
| around it | `adapters`, `lora`, `lora_kinds`, `hypernetworks`, `hires`, `tiling`, `companions`, `refining` |
| latents become pictures | `vae`, `vae_choice`, `encodings`, `pictures`, `files`, `preview`, `tiny_decoder` |

Semantics are A1111's 1.10, checked against its recorded pictures.
"""
