"""What all doors share, and the house's own side door.

A request passes `wire` (time and size of its head), `gate` (with `heads`, `origins` and `bodies`: who may ask, and how
much; `passage`: what every answer carries) and `auth` (the key), and then reaches a door. Doors answer with `reply`
values or the streams of `sse`, notice hang-ups by `disconnect` and mark pictures by `png` and `picture_files` (with
`exif`); `pictures` and `fetch` bring in those that conversations show. The house itself answers on `health`, `page`
and `admin`, in the words of `house`.
"""
