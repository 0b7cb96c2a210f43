"""The cellar: which models exist and which are loaded.

`catalog` and `probe` say what there is, `footprint` and `ledger` what it needs, `devices` what the machine has,
`residents` what is loaded, `eviction` what must go. `companions` and `projectors` tell which files belong to a model
by their names. `hub` fetches models when asked.
"""
