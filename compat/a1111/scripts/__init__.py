"""A1111's selectable scripts, run as several jobs of the house: `script_name` and `script_args` of a request.

| file | what |
|---|---|
| `table` | which scripts there are, with the rows of `script-info` |
| `arguments` | a request's positional arguments, read leniently |
| `stage` | what a script works with: cells, grids, work on pixels; it ends between two jobs when interrupted |
| `prompt_matrix`, `prompts_from_file`, `sd_upscale`, `loopback`, `outpainting`, `poor_outpainting` | one script each |
| `xyz_plot`, `xyz_axes`, `xyz_values`, `xyz_order`, `menu` | X/Y/Z plot: what axes change, how values are written |

The engines know nothing of scripts: each picture is a request of its own, so other clients' pictures come in between.
"""
