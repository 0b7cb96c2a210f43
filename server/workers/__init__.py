"""The stairs: one child process per loaded model, typed messages over a socket pair.

`protocol` is the messages, `framing` their bytes, `link` how they travel, `child` the child's main, `supervisor` the
parent's side. The parent names the child by its module path and never imports it.
"""
