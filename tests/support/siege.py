"""A house under siege: requests of any kind are sent, and whatever of the answers is not as it should be is noted."""

import base64
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from server.doors import ALIASES
from server.engines.fake import png as colour_png
from tests.support.fakes import text_model
from tests.support.open_house import OpenHouse, open_house, painter
from tests.support.schema_bodies import Bodies, Description, described, described_posts

SEED = 20_240_601
SLOWEST_S = 10.0
LEAK = re.compile(r"0x[0-9a-f]{6,}|/home/|/tmp/|Traceback|site-packages|\.py\b")
PICTURE = base64.b64encode(colour_png(16, 16, (1, 2, 3))).decode()
WISHES: dict[str, Any] = {
    "documents": ["a", "b"],
    "input": "a b c",
    "init_images": [PICTURE],
    "image": PICTURE,
    "mask": None,
    "logit_bias": {"5": -1},
    "width": 16,
    "height": 16,
    "steps": 1,
    "n_iter": 1,
    "batch_size": 1,
    "enable_hr": False,
    "override_settings": {},
    "alwayson_scripts": {},
    "max_tokens": 5,
    "n_predict": 5,
    "n": 1,
    "best_of": 1,
    "ignore_eos": False,
    "messages": [{"role": "user", "content": "hi"}],
}
PAINTING = ("/sdapi", "/v1/images", "/internal")


def well_formed(door: str, answer: httpx.Response) -> bool:
    """Tell whether an error answer is in the words of its door."""
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return False
    told = answer.json()
    if door == "a1111":
        problems = told.get("detail")
        listed = isinstance(problems, list) and all({"loc", "msg", "type"} <= set(one) for one in problems)
        plain = set(told) == {"detail"} and isinstance(problems, str)
        return listed or plain or {"error", "detail", "body", "errors"} <= set(told)
    error = told["error"]
    wanted = {
        "openai": {"message", "type", "param", "code"},
        "anthropic": {"type", "message"},
        "llama_server": {"code", "message", "type"},
        "hearth": {"code", "message"},
    }[door]
    return wanted <= set(error) and isinstance(error["message"], str) and bool(error["message"])


STILL_THERE: Sequence[tuple[str, dict[str, Any]]] = (
    ("/v1/chat/completions", {"model": "talker", "messages": [{"role": "user", "content": "still here"}]}),
    ("/sdapi/v1/txt2img", {"prompt": "p", "steps": 1, "width": 16, "height": 16}),
)


@dataclass
class Siege:
    """Sends bodies to a house and writes down whatever is not as it should be.

    `models` are the models for paths by their beginnings, `still` what must be answered in the end.
    """

    house: OpenHouse
    description: Description
    models: Mapping[str, str] = field(default_factory=lambda: {"": "talker", **dict.fromkeys(PAINTING, "painter")})
    still: Sequence[tuple[str, dict[str, Any]]] = STILL_THERE
    complaints: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def posts(self, *, aliases: bool = True) -> dict[str, dict[str, Any]]:
        """Return all POST paths with their described bodies; `aliases` are further names of routes."""
        found = described_posts(self.house.house.litestar, self.description)
        if not aliases:
            return found
        return found | {alias: found[meant] for alias, meant in ALIASES.items() if meant in found}

    def bodies(self, path: str, dice: random.Random) -> Bodies:
        """Return a maker of bodies that name a model of the kind that the path is for."""
        return Bodies(self.description, dice, {**WISHES, "model": self.model(path)})

    def model(self, path: str) -> str:
        """Return the model for a path."""
        meant = ALIASES.get(path, path)
        return self.models[max((start for start in self.models if meant.startswith(start)), key=len)]

    def door(self, path: str) -> str:
        """Return the name of the door that words the refusals of a path."""
        meant = ALIASES.get(path, path)
        return next((dialect.name for dialect in self.house.house.dialects if dialect.answers(meant)), "hearth")

    async def send(self, path: str, body: bytes, *, what: str = "", kind: str = "application/json") -> httpx.Response:
        """Post one body, judge the answer and return it."""
        there = path.replace("{job}", "nobody")
        return await self.ask("POST", there, body, what=what, headers={"content-type": kind})

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, what: str = "", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send one request, judge the answer and return it."""
        began = time.monotonic()
        answer = await self.house.client.request(method, path, content=body, headers=headers)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        for fault in self._faults(path.partition("?")[0], answer, time.monotonic() - began):
            self.complaints.append(f"{fault}: {method} {path[:200]} {what} {body[:300]!r} -> {answer.text[:300]}")
        return answer

    def _faults(self, path: str, answer: httpx.Response, seconds: float) -> Iterator[str]:
        documented = {501} if self.door(path) in ("a1111", "openai") else set()
        told = answer.request.method != "HEAD" and answer.status_code != 499
        if answer.status_code >= 500 and answer.status_code not in documented:
            yield f"status {answer.status_code}"
        if answer.status_code >= 400 and told and not well_formed(self.door(path), answer):
            yield "not in the words of the door"
        if answer.status_code >= 400 and LEAK.search(answer.text):
            yield "leak"
        if seconds > SLOWEST_S:
            yield f"took {seconds:.0f} s"

    async def end(self) -> None:
        """Fail with all complaints; the workers still answer, and nothing is left of what was asked."""
        assert not self.complaints, f"{len(self.complaints)} complaints\n" + "\n".join(self.complaints[:25])
        await self.house.none_live()
        for path, body in self.still:
            answer = await self.house.client.post(path, json=body)
            assert answer.status_code == 200, answer.text


@contextlib.asynccontextmanager
async def siege(folder: Path) -> AsyncIterator[Siege]:
    """Open a house with a talker and a painter, both loaded."""
    async with open_house(folder, text_model(folder, context=512), painter(folder)) as house:
        under_siege = Siege(house, described(house.house.litestar))
        await under_siege.end()
        yield under_siege
