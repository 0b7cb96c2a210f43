"""`starter-chat`: dialogues from a script, a tokenizer, a small llama, its training, export and scores.

python -m training.chat train      all of it, from the seed, into server/starter/chat.gguf
python -m training.chat eval       the scores on held-out phrasings, through a running server
python -m training.chat show       some dialogues of the training data
"""
