"""CLIP's tokenizer: the merge list with its licence (data of OpenAI's CLIP, MIT) and the code that reads it."""
