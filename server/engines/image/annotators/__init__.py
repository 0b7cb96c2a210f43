"""Networks that draw a picture's map for a ControlNet: soft edges, lines, depth, poses. One file each.

| file | modules | users have it as |
|---|---|---|
| `hed` | `hed`, `hed_safe`, `scribble_hed` | `ControlNetHED.pth` |
| `sketch` | `lineart`, `lineart_coarse` | `sk_model.pth`, `sk_model2.pth` |
| `anime_lines` | `lineart_anime` | `netG.pth` |
| `depth` | `depth`, `depth_zoe`, `depth_anything`, `depth_anything_v2` | a folder of transformers |
| `body_pose` | `openpose` | `body_pose_model.pth` |

The architectures are told by the names and shapes of the published weights. No output of the original programs was at
hand to compare with.
"""
