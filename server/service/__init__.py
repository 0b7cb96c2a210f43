"""The hall: what can be asked, who goes next, and how it stands.

`service` is every verb a door may use; `scheduler` decides and never acts (`backoff` is its memory of failures); `loop`
is the one owner that acts on it, with `loading` for bringing a model up and `live` for the jobs that have not ended;
`stream` carries a job's events to its reader; `board` shows live and recent jobs.
"""
