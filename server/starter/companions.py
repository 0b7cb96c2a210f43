"""What ships beside the picture model and works with no other: a LoRA and a control model."""

from typing import Final

PIXEL_ART: Final = "starter-pixel-art"
CANNY: Final = "starter-canny"

PIXEL_ART_FILE: Final = "pixel-art.safetensors"
CANNY_FILE: Final = "canny.safetensors"
