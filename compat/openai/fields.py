"""Which request fields are honoured, ignored or refused, and why. A test holds this table against the structs.

*Ignored* fields are accepted without effect and named in the answer's `x-hearth-ignored` header, as is any unknown one.
*Refused* fields would change the result that the caller asked for: they are answered 400 unless they have a value that
means "off" (null, false, an empty text, list or object, or one of the values listed here).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Standing(StrEnum):
    """What happens to a field."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    REFUSED = "refused"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """How one field stands. Of a refused one the caller is told `note`; `off` are harmless values beside empty ones."""

    standing: Standing
    note: str
    off: tuple[Any, ...] = ()


def _honoured(note: str = "") -> Field:
    return Field(standing=Standing.HONOURED, note=note)


def _ignored(note: str) -> Field:
    return Field(standing=Standing.IGNORED, note=note)


def _refused(note: str, *off: Any) -> Field:
    return Field(standing=Standing.REFUSED, note=note, off=off)


_BOOKKEEPING = "bookkeeping of the hosted service"
_FILTER = "a sampler that is not there; the others still apply"
_DETAIL = "how llama-server reports or caches; the text is the same"
_CONSTRAINED = "constrained output is not supported by this server yet"

_BOTH: dict[str, Field] = {
    "model": _honoured("absent or empty = the default model"),
    "frequency_penalty": _honoured(),
    "logit_bias": _honoured("by token id; as object or as llama.cpp's list of pairs, where false forbids a token"),
    "max_tokens": _honoured("negative = up to the end of the context"),
    "max_completion_tokens": _honoured("wins over max_tokens"),
    "n_predict": _honoured("llama.cpp's name of max_tokens; the others win"),
    "n": _honoured(),
    "presence_penalty": _honoured(),
    "seed": _honoured("taken modulo 2^32; -1 = random"),
    "stop": _honoured("up to 64; empty ones are dropped"),
    "stream": _honoured(),
    "stream_options": _honoured("include_usage; without stream it has no effect"),
    "temperature": _honoured(),
    "top_p": _honoured(),
    "top_k": _honoured("0 or -1 = off"),
    "min_p": _honoured(),
    "typical_p": _honoured(),
    "repeat_penalty": _honoured("0 or 1 = off"),
    "repetition_penalty": _honoured("another name of repeat_penalty, which wins"),
    "repeat_last_n": _honoured("-1 = the whole context"),
    "ignore_eos": _honoured(),
    "response_format": _honoured("of type text; json_object and json_schema are refused"),
    "grammar": _refused(_CONSTRAINED),
    "json_schema": _refused(_CONSTRAINED),
    "guided_json": _refused(_CONSTRAINED),
    "guided_regex": _refused(_CONSTRAINED),
    "guided_choice": _refused(_CONSTRAINED),
    "guided_grammar": _refused(_CONSTRAINED),
    "structured_outputs": _refused(_CONSTRAINED),
    "n_probs": _refused("token probabilities are not supported by this server yet", 0),
    "lora": _refused("adapters for a single request are not supported by this server"),
    "user": _ignored(_BOOKKEEPING),
    "metadata": _ignored(_BOOKKEEPING),
    "store": _ignored(_BOOKKEEPING),
    "service_tier": _ignored(_BOOKKEEPING),
    "safety_identifier": _ignored(_BOOKKEEPING),
    "moderation": _ignored(_BOOKKEEPING),
    "prompt_cache_key": _ignored("prompts are cached by their text"),
    "prompt_cache_options": _ignored("prompts are cached by their text"),
    "prompt_cache_retention": _ignored("prompts are cached by their text"),
    "cache_prompt": _ignored(_DETAIL),
    "id_slot": _ignored(_DETAIL),
    "timings_per_token": _ignored(_DETAIL),
    "return_progress": _ignored(_DETAIL),
    "return_tokens": _ignored(_DETAIL),
    "samplers": _ignored("the order is llama.cpp's own"),
    "sampler_order": _ignored("the order is llama.cpp's own"),
    "mirostat": _ignored(_FILTER),
    "mirostat_mode": _ignored(_FILTER),
    "mirostat_tau": _ignored(_FILTER),
    "mirostat_eta": _ignored(_FILTER),
    "dry_multiplier": _ignored(_FILTER),
    "dry_base": _ignored(_FILTER),
    "dry_allowed_length": _ignored(_FILTER),
    "dry_penalty_last_n": _ignored(_FILTER),
    "dry_sequence_breakers": _ignored(_FILTER),
    "xtc_probability": _ignored(_FILTER),
    "xtc_threshold": _ignored(_FILTER),
    "dynatemp_range": _ignored(_FILTER),
    "dynatemp_exponent": _ignored(_FILTER),
    "top_n_sigma": _ignored(_FILTER),
    "tfs": _ignored(_FILTER),
    "top_a": _ignored(_FILTER),
    "min_tokens": _ignored(_FILTER),
    "min_keep": _ignored(_FILTER),
}

CHAT: Mapping[str, Field] = _BOTH | {
    "messages": _honoured("text only; pictures, audio and files are refused"),
    "tools": _honoured("shown to the model by its template; its calls come back as text"),
    "tool_choice": _honoured("auto and none; required and a named function are refused"),
    "functions": _honoured("the older form of tools"),
    "function_call": _honoured("the older form of tool_choice"),
    "reasoning_effort": _honoured("handed to the chat template"),
    "chat_template_kwargs": _honoured("names of TEMPLATE_OPTIONS; the others have no effect"),
    "add_generation_prompt": _honoured("false continues a last assistant message"),
    "continue_final_message": _honoured("a last assistant message is continued unless this is false"),
    "modalities": _honoured("text; audio is refused"),
    "audio": _refused("audio output is not supported by this server"),
    "logprobs": _refused("log probabilities are not supported by this server yet"),
    "top_logprobs": _refused("log probabilities are not supported by this server yet", 0),
    "chat_template": _refused("a template in the request is not accepted; the model's own is used"),
    "parallel_tool_calls": _ignored("calls are not forced, so they are not counted either"),
    "prediction": _ignored("only a hint for speed"),
    "verbosity": _ignored("no local model knows it"),
    "web_search_options": _ignored("there is no web search"),
}

COMPLETION: Mapping[str, Field] = _BOTH | {
    "prompt": _honoured("a text, several, token ids, or several lists of them"),
    "echo": _honoured(),
    "best_of": _honoured("equal to n; more is refused"),
    "suffix": _refused("filling in before a suffix is not supported by this server yet"),
    "logprobs": _refused("log probabilities are not supported by this server yet"),
}

TEMPLATE_OPTIONS: Mapping[str, tuple[type, ...]] = {
    "enable_thinking": (bool,),
    "thinking": (bool,),
    "preserve_thinking": (bool,),
    "reasoning_effort": (str,),
    "thinking_budget": (int,),
}
"""The variables of chat templates that a request may set, and their types."""


def is_off(value: Any, off: tuple[Any, ...] = ()) -> bool:
    """Tell whether a value means "not set"; 0 and false are kept apart."""
    if value is None or value is False or (isinstance(value, str | list | dict) and not value):
        return True
    return any(type(value) is type(known) and value == known for known in off)
