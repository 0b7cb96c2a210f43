"""Text to CLIP token ids, from the merge list beside this file. Knows nothing of chunks or weights."""

import gzip
from functools import cache
from importlib.resources import files

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

MERGES = 48_894
"""How many lines of the list CLIP uses: 49,152 symbols less 256 bytes and the two marks."""

START = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"

WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP cuts a text into words (the pattern of its own tokenizer)."""


class ClipTokenizer:
    """Lower-cases, splits into words and merges bytes, as CLIP was trained with. Adds no start or end token."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        vocabulary = _vocabulary(merges)
        self.start = vocabulary[START]
        self.end = vocabulary[END]
        self.comma = vocabulary["," + WORD_END]
        self._tokenizer = Tokenizer(
            BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=WORD_END, unk_token=END, fuse_unk=False)
        )
        self._tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._tokenizer.add_special_tokens([START, END])

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without start and end."""
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def vocabulary(self) -> dict[str, int]:
        """Return all symbols with their ids."""
        return self._tokenizer.get_vocab(with_added_tokens=True)


def _byte_symbols() -> list[str]:
    """Return the printable stand-ins of the 256 bytes in CLIP's order: printable ones as they are, then the rest.

    This is GPT-2's byte table: bytes without a printable Latin-1 form stand as the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    symbols = _byte_symbols()
    words = [*symbols, *(symbol + WORD_END for symbol in symbols), *(a + b for a, b in merges), START, END]
    return {word: index for index, word in enumerate(words)}


@cache
def load_tokenizer() -> ClipTokenizer:
    """Return the tokenizer that all CLIP text encoders of Stable Diffusion share; takes 0.2 s, so once a process."""
    packed = files("server.engines.image.clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]
    return ClipTokenizer([(left, right) for left, right in (line.split() for line in lines)])
