"""The AUTOMATIC1111 door: `/sdapi/v1/*` and the `/internal` routes that clients poll.

`wire` is the foreign JSON; `body` and `lenient` read it; `fields` says which of it counts and `checks` holds requests
against bounds; `convert` (with `prompt_syntax`, `names`, `denoise`, `hires`, `networks`, `styles`, `options`) turns a
request into the core's, `controlnet/` that extension's units, and `img2img` (with `encoded`, `given`,
`img2img_fields`) adds pictures to that; `answer` (with `extras`, `infotext`, `fingerprints`) turns pictures into an
answer; `progress` and `listings` tell what is there; `errors` and `refusals` word every no.

`routes` are the handlers; `door` holds the state that A1111 has and the core has not. A request goes through `pasting`
(its infotext), `workshop` (plan, make, save) with `making` (one job) and `runs` (several jobs), `scripts/`, `grids`,
`saving`, `naming` and `file_formats` (files); `postprocess` enlarges finished pictures by `upscalers`.

    convert.to_core(wire.Txt2Img(...), convert.Context(model="tiny"))  ->  ImageRequest, without any server
"""

from compat.a1111.routes import BEGINNINGS, dialect
from compat.a1111.settings import A1111Settings

__all__ = ["BEGINNINGS", "A1111Settings", "dialect"]
