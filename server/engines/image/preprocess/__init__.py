"""Pictures to the maps that control models follow, by plain image processing: numpy and Pillow, no torch, no networks.

| file | what |
|---|---|
| `modules` | the table: a module's id to its function; what none of them is asked for |
| `canny`, `lines`, `colours`, `shuffling` | the modules |
| `pose` | people drawn from their joints in OpenPose's JSON |
| `fitting`, `thinning` | a map to the size of the latents, edges kept as thin as they were |
| `resampling`, `smoothing` | resizing and blurring by OpenCV's formulas |

Arrays are [height, width, channels] uint8: red, green, blue, and for inpainting a fourth channel that marks what is
left open (255). OpenCV itself is not needed; its fixed-point roundings may differ from ours by a level.
"""
