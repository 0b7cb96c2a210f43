"""The cellar: which models exist (`catalog`, `probe`), what they need (`footprint`, `ledger`), which are loaded
(`residents`), which must go (`eviction`) and what the machine has (`devices`). `hub` fetches models when asked.
"""
