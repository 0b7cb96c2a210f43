"""The hall: what can be asked, who goes next, and how it stands.

`service` is every verb a door may use; `scheduler` decides and never acts; `loop` is the one owner that acts on it;
`stream` carries a job's events to its reader; `board` shows live and recent jobs.
"""
