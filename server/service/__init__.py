"""The hall: what can be asked of the house (`service`), who goes next (`scheduler`, pure), and the one task that acts
on it (`loop`). `stream` carries a job's events to its reader; `board` shows live and recent jobs.
"""
