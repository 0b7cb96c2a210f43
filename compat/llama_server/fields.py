"""Which request fields are honoured, ignored or refused, and why. A test holds these tables against the structs.

*Ignored* fields are accepted without effect and named in the answer's `x-hearth-ignored` header, as is any unknown one.
*Refused* ones would change the result that the caller asked for: they are answered 400 unless they are off.
"""

from collections.abc import Mapping

_CACHE = "prompts are cached by their text, across all slots"
_DETAIL = "how llama-server reports; the text is the same"

HONOURED: Mapping[str, str] = {
    "model": "absent or empty = the default model",
    "prompt": "a text, token ids, an object with prompt_string, or a list of such; ids and text are not mixed",
    "input_prefix": "",
    "input_suffix": "",
    "input_extra": "stands before the prefix",
    "n_predict": "-1 = up to the end of the context",
    "max_tokens": "another name of n_predict, which wins",
    "n_cmpl": "",
    "n": "another name of n_cmpl, which wins",
    "stream": "",
    "stop": "up to 64; empty ones are dropped",
    "seed": "taken modulo 2^32; -1 = random",
    "ignore_eos": "",
    "logit_bias": "by token id or text; as object or as list of pairs, where false forbids",
    "temperature": "below 0 = greedy",
    "dynatemp_range": "",
    "dynatemp_exponent": "",
    "top_k": "0 or -1 = off",
    "top_p": "",
    "min_p": "",
    "typical_p": "",
    "top_n_sigma": "",
    "min_keep": "",
    "xtc_probability": "",
    "xtc_threshold": "",
    "repeat_last_n": "",
    "repeat_penalty": "0 or 1 = off",
    "presence_penalty": "",
    "frequency_penalty": "",
    "dry_multiplier": "",
    "dry_base": "",
    "dry_allowed_length": "",
    "dry_penalty_last_n": "",
    "dry_sequence_breakers": "",
    "mirostat": "",
    "mirostat_tau": "",
    "mirostat_eta": "",
    "samplers": "names or a text of letters; unknown ones are left out",
    "grammar": "GBNF",
    "json_schema": "",
    "n_probs": "",
    "return_tokens": "",
    "response_fields": "of the whole answer, or of the last chunk",
    "lora": "adapters by id or name with their scale; those that are not named do not act",
    "id_slot": "the number by which /slots/{id_slot} finds what was computed; the prompt runs where it is best",
}

IGNORED: Mapping[str, str] = {
    "cache_prompt": _CACHE,
    "n_cache_reuse": _CACHE,
    "n_keep": "a full context ends the text",
    "n_discard": "a full context ends the text",
    "n_indent": "the text may be longer; editors cut it themselves",
    "t_max_prompt_ms": "the text may be longer",
    "t_max_predict_ms": "the text may be longer",
    "timings_per_token": _DETAIL,
    "return_progress": _DETAIL,
    "sse_ping_interval": _DETAIL,
    "speculative.n_max": "only a hint for speed",
    "speculative.n_min": "only a hint for speed",
    "speculative.p_min": "only a hint for speed",
}

REFUSED: Mapping[str, str] = {
    "post_sampling_probs": "only probabilities before sampling are told",
}

SAMPLERS: Mapping[str, str] = {
    "penalties": "penalties",
    "dry": "dry",
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "typ_p": "typ_p",
    "typical_p": "typ_p",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc": "xtc",
    "temperature": "temperature",
    "temp": "temperature",
}
"""Names of samplers in requests, and the core's."""

LETTERS: Mapping[str, str] = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
}
"""The same as llama.cpp's `--sampler-seq` abbreviates them."""
