"""The hall: what can be asked, who goes next, and how it stands.

`service` is every verb a door may use; `scheduler` decides and never acts, in the words of `decisions`, with `turns`
and `backoff`; `loop` is the one owner that acts on it, within `limits`, with `loading` for how a model is brought up,
`live` for the jobs that have not ended and `suspects` for requests that end workers. `stream` carries a job's events to
its reader; `board` and `totals` show live and recent jobs.
"""
