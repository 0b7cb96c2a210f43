"""For models that were trained on no format, or on one that is not known here: a bare JSON object.

Such models often put it into a fence or into the tags that they saw most often in training; these are read too.
"""

from server.engines.text.tool_formats.json_calls import JsonCalls

GENERIC = JsonCalls(opens=(("```json", "```"), ("<tool_call>", "</tool_call>")), bare=True)
