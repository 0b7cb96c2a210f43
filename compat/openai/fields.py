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
_FILTER = "a sampler that llama.cpp has not; the others still apply"
_DETAIL = "how llama-server reports or caches; the text is the same"
_SCHEMA = "the answer follows the schema; only one of all constraints can be given"
_ALIAS = "vLLM's name: "

_SAMPLER: dict[str, Field] = {
    "model": _honoured("absent or empty = the default model"),
    "frequency_penalty": _honoured(),
    "logit_bias": _honoured("by token id or text; as object or as llama.cpp's list of pairs; false forbids a token"),
    "presence_penalty": _honoured(),
    "seed": _honoured("taken modulo 2^32; -1 = random"),
    "stop": _honoured("up to 64; empty ones are dropped"),
    "stream": _honoured(),
    "temperature": _honoured(),
    "top_p": _honoured(),
    "top_k": _honoured("0 or -1 = off"),
    "min_p": _honoured(),
    "typical_p": _honoured(),
    "repeat_penalty": _honoured("0 or 1 = off"),
    "repetition_penalty": _honoured("another name of repeat_penalty, which wins"),
    "repeat_last_n": _honoured("-1 = the whole context"),
    "ignore_eos": _honoured(),
    "min_keep": _honoured(),
    "top_n_sigma": _honoured("-1 = off"),
    "dynatemp_range": _honoured("0 = off"),
    "dynatemp_exponent": _honoured(),
    "xtc_probability": _honoured("0 = off"),
    "xtc_threshold": _honoured(),
    "dry_multiplier": _honoured("0 = off"),
    "dry_base": _honoured(),
    "dry_allowed_length": _honoured(),
    "dry_penalty_last_n": _honoured("-1 = the whole context"),
    "dry_sequence_breakers": _honoured("a list, or such a list as JSON text"),
    "mirostat": _honoured("0 = off, 1 or 2"),
    "mirostat_mode": _honoured("another name of mirostat, which wins"),
    "mirostat_tau": _honoured(),
    "mirostat_eta": _honoured(),
    "samplers": _honoured("a list of names or names with semicolons; unknown ones have no effect"),
    "grammar": _honoured("GBNF, or Lark when it has no '::='"),
    "json_schema": _honoured(_SCHEMA),
    "regex": _honoured("the whole answer matches it"),
    "guided_json": _honoured(_ALIAS + "json_schema"),
    "guided_regex": _honoured(_ALIAS + "regex"),
    "guided_choice": _honoured("the answer is one of these texts"),
    "guided_grammar": _honoured(_ALIAS + "grammar"),
    "structured_outputs": _honoured(_ALIAS + "json, json_object, regex, choice, grammar; structural_tag is refused"),
    "grammar_lazy": _refused("a grammar holds for the whole answer on this server"),
    "lora": _honoured("adapters by id or name with their scale; those that are not named do not act"),
    "id_slot": _honoured("the number by which /slots/{id_slot} finds what was computed; -1 = none"),
    "cache_salt": _honoured("vLLM's; what was computed of a prompt is used again for the same salt alone"),
    "user": _ignored(_BOOKKEEPING),
    "metadata": _ignored(_BOOKKEEPING),
    "service_tier": _ignored(_BOOKKEEPING),
    "safety_identifier": _ignored(_BOOKKEEPING),
    "moderation": _ignored(_BOOKKEEPING),
    "prompt_cache_key": _ignored("prompts are cached by their text"),
    "prompt_cache_options": _ignored("prompts are cached by their text"),
    "prompt_cache_retention": _ignored("prompts are cached by their text"),
    "cache_prompt": _ignored("prompts are always cached"),
    "n_keep": _ignored("a full context ends the answer; nothing is shifted out of it"),
    "timings_per_token": _ignored(_DETAIL),
    "return_progress": _ignored(_DETAIL),
    "return_tokens": _ignored(_DETAIL),
    "sampler_order": _ignored("KoboldCpp's numbers; 'samplers' is read"),
    "tfs": _ignored(_FILTER),
    "top_a": _ignored(_FILTER),
    "min_tokens": _ignored(_FILTER),
}

_BOTH: dict[str, Field] = _SAMPLER | {
    "max_tokens": _honoured("negative = up to the end of the context"),
    "max_completion_tokens": _honoured("wins over max_tokens"),
    "n_predict": _honoured("llama.cpp's name of max_tokens; the others win"),
    "n": _honoured(),
    "stream_options": _honoured("include_usage; without stream it has no effect"),
    "response_format": _honoured("text, json_object and json_schema; " + _SCHEMA),
    "n_probs": _honoured("llama.cpp's way to ask for logprobs; 0 = none"),
    "store": _ignored(_BOOKKEEPING),
}

CHAT: Mapping[str, Field] = _BOTH | {
    "messages": _honoured("texts, and pictures as data URLs or, if the configuration allows, addresses; no audio"),
    "tools": _honoured("functions and image_generation, which is run here; tools of other types are refused"),
    "tool_choice": _honoured("auto, none, required, a named function, image_generation, allowed_tools"),
    "parallel_tool_calls": _honoured("false = at most one call"),
    "functions": _honoured("the older form of tools; its call comes back as function_call"),
    "function_call": _honoured("the older form of tool_choice"),
    "reasoning_effort": _honoured("handed to the chat template; none = no thinking"),
    "reasoning": _honoured("effort, max_tokens, enabled, exclude"),
    "thinking": _honoured("type and budget_tokens"),
    "enable_thinking": _honoured("handed to the chat template; false = no thinking"),
    "thinking_budget": _honoured("tokens of thinking; -1 = unlimited"),
    "reasoning_budget": _honoured("another name of thinking_budget, which wins"),
    "include_reasoning": _honoured("false leaves thoughts out of the answer"),
    "reasoning_format": _honoured("none leaves thoughts in the text; auto and deepseek split them off"),
    "chat_template_kwargs": _honoured("names of TEMPLATE_OPTIONS; the others have no effect"),
    "add_generation_prompt": _honoured("false continues a last assistant message"),
    "continue_final_message": _honoured("a last assistant message is continued unless this is false"),
    "modalities": _honoured("text; audio is refused"),
    "logprobs": _honoured(),
    "top_logprobs": _honoured("0 ... 20, with logprobs"),
    "audio": _refused("audio output is not supported by this server"),
    "chat_template": _refused("a template in the request is not accepted; the model's own is used"),
    "prediction": _ignored("only a hint for speed"),
    "verbosity": _ignored("no local model knows it"),
    "web_search_options": _ignored("there is no web search"),
}

COMPLETION: Mapping[str, Field] = _BOTH | {
    "prompt": _honoured("a text, several, token ids, or several lists of them"),
    "echo": _honoured("with logprobs also those of the prompt"),
    "best_of": _honoured("more than n cannot be streamed"),
    "suffix": _honoured("the text behind the gap, for models that can fill one in"),
    "logprobs": _honoured("0 ... 20"),
}

EMBEDDING: Mapping[str, Field] = {
    "input": _honoured("a text, several, token ids, or several lists of them; empty ones are refused"),
    "model": _honoured("absent or empty = the default embedding model"),
    "encoding_format": _honoured("float (the default) or base64"),
    "dimensions": _honoured("cuts the vector and normalises it again"),
    "user": _ignored(_BOOKKEEPING),
}

RERANK: Mapping[str, Field] = {
    "query": _honoured(),
    "model": _honoured("absent or empty = the default reranking model"),
    "documents": _honoured("texts, or objects with text: Jina's shape"),
    "texts": _honoured("TEI's shape"),
    "top_n": _honoured(),
    "return_documents": _honoured(),
    "return_text": _honoured("with texts"),
    "raw_scores": _honoured("with texts; without it scores are 0 ... 1. With documents they are always raw"),
    "truncate": _ignored("a text that is too long is refused"),
}

RESPONSES: Mapping[str, Field] = _SAMPLER | {
    "input": _honoured("a text or items: message, calls of functions and pictures, outputs, reasoning, item_reference"),
    "instructions": _honoured("the first system message"),
    "max_output_tokens": _honoured(),
    "previous_response_id": _honoured("of a stored response"),
    "store": _honoured("absent = true; without a state folder nothing is stored"),
    "tools": _honoured("functions and image_generation, which is run here; others are skipped and named"),
    "tool_choice": _honoured("auto, none, required, a named function, image_generation, allowed_tools"),
    "parallel_tool_calls": _honoured("false = at most one call"),
    "text": _honoured("format: text, json_object, json_schema; verbosity has no effect"),
    "reasoning": _honoured("effort; summaries are not made, thoughts are told as they are"),
    "include": _honoured("message.output_text.logprobs; the others have no effect"),
    "top_logprobs": _honoured("0 ... 20; with a number above 0 logprobs are told"),
    "metadata": _honoured("given back"),
    "user": _honoured("given back"),
    "chat_template_kwargs": _honoured("names of TEMPLATE_OPTIONS; the others have no effect"),
    "background": _refused("answers in the background are not supported by this server"),
    "conversation": _refused("conversations are not kept by this server; give previous_response_id"),
    "prompt": _refused("prompt templates are not kept by this server"),
    "context_management": _refused("the context is not managed by this server"),
    "stream_options": _ignored("there is nothing to obfuscate"),
    "truncation": _ignored("an input that is too long is refused"),
    "max_tool_calls": _honoured("how many pictures may be asked for; absent = 8"),
    "access_programs": _ignored(_BOOKKEEPING),
    "background_options": _ignored(_BOOKKEEPING),
    "image": _ignored("how pictures in the context are packed"),
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
