import base64

import pytest

from compat.a1111 import wire
from compat.a1111.refusals import Refused
from compat.a1111.scripts.sd_upscale import batches_of, source
from tests.support.fake_images import tiny_png

PICTURE = base64.b64encode(tiny_png()).decode()


def test_tiles_are_made_in_batches_with_rising_seeds() -> None:
    request = wire.Img2Img(seed=10, batch_size=2, n_iter=3, width=64, height=64)
    found = batches_of(request, [b"a", b"b", b"c"])
    assert [(one.seed, one.batch_size, one.n_iter) for one in found] == [(10, 2, 1), (11, 1, 1)]
    assert [base64.b64decode(text) for one in found for text in one.init_images or []] == [b"a", b"b", b"c"]


def test_the_source() -> None:
    fixed, picture = source(wire.Img2Img(init_images=[PICTURE], seed=-1))
    assert picture == tiny_png()
    assert fixed.seed != -1
    for without in (wire.Img2Img(), wire.Img2Img(init_images=[]), wire.Txt2Img()):
        with pytest.raises(Refused, match="Init image not found"):
            source(without)
