"""A guess at the next tokens of a text: what followed when it last stood where it stands now. Pure.

Texts that repeat what they were given (code to change, passages to quote, lists) or themselves go on as they did after
the same tokens before.

    text                  guess of 4 tokens
    a b c d e … a b c     d e … a
    x y z x y z           x y z x   the guess repeats with the text
    a b c d               (none)
"""

import numpy as np

from server.engines.text.prefix import Tokens

SHORTEST_MATCH = 3
LONGEST_MATCH = 16


def guess(tokens: Tokens, count: int) -> Tokens | None:
    """Return the `count` tokens that may follow a text [n], None when its end has not occurred before.

    Of all earlier places where the last tokens stand, the one counts that agrees furthest back; then the latest.
    """
    last = len(tokens) - 1
    if last < SHORTEST_MATCH or count < 1:
        return None
    places = np.flatnonzero(tokens[SHORTEST_MATCH - 1 : last] == tokens[last]) + (SHORTEST_MATCH - 1)
    for back in range(1, min(LONGEST_MATCH, last)):
        kept = places[places >= back]
        kept = kept[tokens[kept - back] == tokens[last - back]]
        if not len(kept):
            if back < SHORTEST_MATCH:
                return None
            break
        places = kept
    if not len(places):
        return None
    following = tokens[int(places[-1]) + 1 :]
    return np.resize(following, count)
