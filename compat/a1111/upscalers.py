"""Upscalers as A1111 names them: three that need no file, then those whose files are there.

| file | name |
|---|---|
| `ESRGAN/4x-UltraSharp.pth` | `4x-UltraSharp` |
| `ESRGAN/ESRGAN.pth` | `ESRGAN_4x` |
| `RealESRGAN/RealESRGAN_x4plus.pth` | `R-ESRGAN 4x+` |
| `DAT/DAT_x2.pth` | `DAT x2` |

A file answers to its own name too. Files that cannot be used are not listed: pickles, for one, while the configuration
does not allow them.
"""

import re
from collections.abc import Iterable
from pathlib import PurePath

import msgspec

from compat.a1111.names import PIXEL_UPSCALERS
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from server.core.image import UpscalerRef
from server.core.models import ModelCard
from server.core.pixels import BUILT_IN, Kernel

KERNELS: dict[str, Kernel] = {"none": "none", "lanczos": "lanczos", "nearest": "nearest"}

REALESRGAN = {
    "realesr-general-x4v3": "R-ESRGAN General 4xV3",
    "realesr-general-wdn-x4v3": "R-ESRGAN General WDN 4xV3",
    "realesr-animevideov3": "R-ESRGAN AnimeVideo",
    "RealESRGAN_x4plus": "R-ESRGAN 4x+",
    "RealESRGAN_x4plus_anime_6B": "R-ESRGAN 4x+ Anime6B",
    "RealESRGAN_x2plus": "R-ESRGAN 2x+",
}
"""A1111's names for the files of Real-ESRGAN's releases."""

NAMED = REALESRGAN | {
    "ESRGAN": "ESRGAN_4x",
    "DAT_x2": "DAT x2",
    "DAT_x3": "DAT x3",
    "DAT_x4": "DAT x4",
    "scunet_color_real_gan": "ScuNET GAN",
    "scunet_color_real_psnr": "ScuNET PSNR",
    "003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN": "SwinIR 4x",
}

FOLDERS = ("esrgan", "realesrgan", "dat", "hat", "swinir", "scunet")
CLASS_NAMES = {"esrgan": "ESRGAN_4x", "swinir": "SwinIR 4x", "scunet": "ScuNET GAN"}
TILE_OPTIONS = {"dat": "DAT_tile", "hat": "DAT_tile", "swinir": "SWIN_tile", "scunet": "SCUNET_tile"}

USUAL_SCALE = 4.0
USUAL_TILE = "ESRGAN_tile"
LARGEST_TILE = 4096

_SCALE = re.compile(r"(?:^|[^0-9a-zA-Z])(?:([1-9])x|x([1-9]))(?![0-9])|(?<![0-9])([1-9])x(?=[-_ ]|$)", re.IGNORECASE)


class Upscaler(msgspec.Struct, frozen=True, kw_only=True):
    """A way to enlarge. `card` is None for those that need no file, which enlarge by `kernel`."""

    name: str
    card: ModelCard | None = None
    kernel: Kernel = "none"

    @property
    def model(self) -> str:
        """Return the model that does it."""
        return BUILT_IN if self.card is None else self.card.id

    @property
    def folder(self) -> str:
        """Return the kind of folder that the file lies in, "" for none."""
        if self.card is None:
            return ""
        parts = [part.lower() for part in PurePath(self.card.files[0]).parts[:-1]]
        return next((part for part in reversed(parts) if part in FOLDERS), "")

    @property
    def scale(self) -> float:
        """Return the factor that the file's name tells, 4 where it tells none."""
        if self.card is None:
            return USUAL_SCALE
        match = _SCALE.search(self.card.stem)
        return float(next(digit for digit in match.groups() if digit)) if match else USUAL_SCALE

    def tiles(self, options: OptionValues) -> tuple[int, int]:
        """Return the side of tiles and their overlap in pixels, as the options say; 0 = no tiles."""
        option = TILE_OPTIONS.get(self.folder, USUAL_TILE)
        if options.get(option) is None:
            option = USUAL_TILE
        tile = options.integer(option, 0, LARGEST_TILE)
        overlap = options.integer(f"{option}_overlap", 0, LARGEST_TILE)
        return tile, min(overlap, tile // 2)

    def reference(self, options: OptionValues) -> UpscalerRef | None:
        """Return the file for work of another model, None where there is none."""
        if self.card is None:
            return None
        tile, overlap = self.tiles(options)
        return UpscalerRef(name=self.name, path=self.card.files[0], tile=tile, overlap=overlap)


def upscalers(cards: Iterable[ModelCard]) -> tuple[Upscaler, ...]:
    """Return all that can be used, in A1111's order: the three without files, then by name."""
    plain = [Upscaler(name=name, kernel=KERNELS[word]) for name, word in PIXEL_UPSCALERS.items()]
    files = [Upscaler(name=NAMED.get(card.stem, card.stem), card=card) for card in cards if card.broken is None]
    return (*plain, *sorted(files, key=lambda one: one.name.lower()))


def find(name: str | None, known: Iterable[Upscaler]) -> Upscaler | None:
    """Return the upscaler of exactly this name, or whose file has it."""
    by_file = {one.card.stem: one for one in known if one.card is not None}
    by_name = {one.name: one for one in known}
    return by_name.get(name or "") or by_file.get(name or "")


def named(name: str, known: Iterable[Upscaler], error: str = "AssertionError") -> Upscaler:
    """Return the upscaler of a name.

    Raises:
        Refused: there is none, in A1111's words.
    """
    found = find(name, known)
    if found is None:
        raise Refused.raised(error, f"could not find upscaler named {name}")
    return found
