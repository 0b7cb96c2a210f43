"""The cellar: which models exist and which are loaded.

`catalog` and `probe` say what there is, `footprint` and `ledger` what it needs, `devices` what the machine has,
`residents` what is loaded, `eviction` what must go. `hub` fetches models when asked.
"""
