"""What A1111 calls the files and folders of saved pictures: patterns of `[words]`, made safe. Pure.

| option | default | gives |
|---|---|---|
| `outdir_txt2img_samples` | `outputs/txt2img-images` | `txt2img-images` below the output folder |
| `directories_filename_pattern` | `[date]` | `2025-01-31` |
| `samples_filename_pattern` | empty, which is `[seed]` | `00000-1234.png` |

Names of options never lead out of the output folder: leading slashes, `..` and everything but letters, digits, spaces
and `.,()-_` are taken out of them, and out of what prompts put into names.
"""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from compat.a1111.options import OptionValues

LONGEST = 128
"""Bytes of a name without number and extension."""

DEEPEST = 16
MOST_WORDS = 8

_WORD: Final = re.compile(r"\[([a-z_]+)((?:<[^<>\[\]]*>)*)\]", re.IGNORECASE)
_UNSAFE: Final = re.compile(r"[^\w .,()-]")
_SEPARATORS: Final = re.compile(r"[/\\]+")
_PROMPT_WORD: Final = re.compile(r"\w+")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What patterns may tell of a picture. `at` is Unix seconds of the job's start."""

    seed: int
    prompt: str
    index: int = 0
    width: int = 0
    height: int = 0
    steps: int = 0
    cfg_scale: float = 0.0
    sampler: str = ""
    schedule: str = ""
    model_name: str = ""
    model_hash: str = ""
    styles: tuple[str, ...] = ()
    batch_size: int = 1
    clip_skip: int = 1
    denoising: float | None = None
    at: float = 0.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file goes: `folder` below the output folder, `base` before the number, `decoration` behind it.

    Without a number the name is the decoration alone.
    """

    folder: tuple[str, ...]
    base: str = ""
    decoration: str = ""
    numbered: bool = True

    def name(self, number: int) -> str:
        """Return the file's name without extension, for the number-th try."""
        parts = [*([self.base] if self.base else []), f"{number:0{4 if self.base else 5}}"]
        if not self.numbered:
            again = f"-{number}" if number else ""
            return f"{self.base}{'-' if self.base and self.decoration else ''}{self.decoration}{again}"
        return "-".join(parts) + (f"-{self.decoration}" if self.decoration else "")


def of_sample(options: OptionValues, route: str, facts: Facts, suffix: str = "") -> Place:
    """Return the place of a picture that `route` (txt2img, img2img) made; `suffix` ends the name of its mask."""
    chosen = options.text("outdir_samples") or options.text(f"outdir_{route}_samples")
    in_dirs = options.flag("save_to_dirs")
    pattern = options.text("samples_filename_pattern") or ("[seed]" if in_dirs else "[seed]-[prompt_spaces]")
    return Place(
        folder=_folder(chosen, _dirs(options) if in_dirs else "", facts),
        decoration=safe(filled(pattern, facts)) + suffix,
        numbered=options.flag("save_images_add_number"),
    )


def of_init(options: OptionValues, digest: str) -> Place:
    """Return the place of a picture that a request began with: its digest is its name."""
    chosen = options.text("outdir_init_images")
    return Place(folder=_folder(chosen, "", Facts(seed=0, prompt="")), decoration=digest, numbered=False)


def of_grid(options: OptionValues, route: str, facts: Facts, base: str = "grid") -> Place:
    """Return the place of a grid; scripts have other names for theirs."""
    chosen = options.text("outdir_grids") or options.text(f"outdir_{route}_grids")
    decoration = ""
    if options.flag("grid_extended_filename"):
        decoration = safe(filled(options.text("samples_filename_pattern") or "[seed]", facts))
    return Place(
        folder=_folder(chosen, _dirs(options) if options.flag("grid_save_to_dirs") else "", facts),
        base=base,
        decoration=decoration,
    )


def filled(pattern: str, facts: Facts) -> str:
    """Return a pattern with its words replaced; words that are not known stay as they are."""

    def word(match: re.Match[str]) -> str:
        maker = _WORDS.get(match[1].lower())
        return match[0] if maker is None else maker(facts, match[2][1:-1])

    return _WORD.sub(word, pattern[: 8 * LONGEST])


def safe(text: str) -> str:
    """Return a text as a name: nothing that a file system or a shell takes for more, no dot in front, not too long."""
    cleaned = _UNSAFE.sub("_", text).strip().lstrip(".").rstrip(". ")
    cut = cleaned.encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore")
    return cut.rstrip(". ")


def _dirs(options: OptionValues) -> str:
    return options.text("directories_filename_pattern") or "[prompt_words]"


def _folder(chosen: str, pattern: str, facts: Facts) -> tuple[str, ...]:
    """Return the folders below the output folder, which is what A1111 calls `outputs`."""
    parts = [safe(part) for part in _SEPARATORS.split(chosen)]
    if parts and parts[0] == "outputs":
        parts = parts[1:]
    dirs = [safe(filled(part, facts)) for part in _SEPARATORS.split(pattern)]
    return tuple(part for part in (*parts, *dirs) if part)[:DEEPEST]


def _date(facts: Facts, form: str) -> str:
    plain = form if form and not re.search(r"%(?![aAbBdmyYHMSIpjUwW%-])", form) else "%Y%m%d%H%M%S"
    return time.strftime(plain, time.localtime(facts.at))


def _words(facts: Facts, count: str) -> str:
    most = int(count) if count.isdecimal() and len(count) < 4 else MOST_WORDS
    return " ".join(_PROMPT_WORD.findall(facts.prompt)[:most])


def _digest(facts: Facts, length: str) -> str:
    most = int(length) if length.isdecimal() and len(length) < 3 else 8
    return hashlib.sha256(facts.prompt.encode("utf-8", "replace")).hexdigest()[:most]


def _has_prompt(facts: Facts, asked: str) -> str:
    """Return those of the words that the prompt has, a word after `|` where it has not."""
    found = []
    for one in asked.split("><") if asked else []:
        wanted, _, other = one.partition("|")
        found.append(wanted if wanted.lower() in facts.prompt.lower() else other)
    return "".join(found)


_WORDS: Final[dict[str, Callable[[Facts, str], Any]]] = {
    "seed": lambda facts, _: str(facts.seed),
    "seed_first": lambda facts, _: str(facts.seed - facts.index),
    "steps": lambda facts, _: str(facts.steps),
    "cfg": lambda facts, _: str(facts.cfg_scale),
    "width": lambda facts, _: str(facts.width),
    "height": lambda facts, _: str(facts.height),
    "styles": lambda facts, _: ", ".join(facts.styles) or "None",
    "sampler": lambda facts, _: facts.sampler,
    "sampler_scheduler": lambda facts, _: f"{facts.sampler} {facts.schedule}".strip(),
    "scheduler": lambda facts, _: facts.schedule,
    "model_hash": lambda facts, _: facts.model_hash,
    "model_name": lambda facts, _: facts.model_name,
    "date": lambda facts, _: time.strftime("%Y-%m-%d", time.localtime(facts.at)),
    "datetime": _date,
    "job_timestamp": lambda facts, _: time.strftime("%Y%m%d%H%M%S", time.localtime(facts.at)),
    "prompt": lambda facts, _: facts.prompt.replace(" ", "_"),
    "prompt_no_styles": lambda facts, _: facts.prompt.replace(" ", "_"),
    "prompt_spaces": lambda facts, _: facts.prompt,
    "prompt_words": _words,
    "prompt_hash": _digest,
    "hasprompt": _has_prompt,
    "batch_number": lambda facts, _: str(facts.index % max(facts.batch_size, 1) + 1),
    "batch_size": lambda facts, _: str(facts.batch_size),
    "generation_number": lambda facts, _: str(facts.index + 1),
    "clip_skip": lambda facts, _: str(facts.clip_skip),
    "denoising": lambda facts, _: "" if facts.denoising is None else str(facts.denoising),
    "user": lambda _facts, _: "",
    "none": lambda _facts, _: "",
}
