"""Samplers: ways from noise to a latent, one small file a family, each a generator that yields after every step.

`base` has what they share, `by_time` what those that step by model time share, `table` the list of all by neutral id.
A sampler calls one guided model and draws from one noise source; schedules, prompts and pictures are not its business.
"""

from server.engines.image.samplers.base import Model, Noise, Sampler, SamplerRun, Step, Steps
from server.engines.image.samplers.table import SAMPLERS, SamplerInfo

__all__ = ["SAMPLERS", "Model", "Noise", "Sampler", "SamplerInfo", "SamplerRun", "Step", "Steps"]
