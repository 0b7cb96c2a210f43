"""The scores of `starter-chat`: held-out questions and wishes for tools, asked of a real server.

An answer to a question is right when it holds the words that the topic must hold; a call is right when it is valid and
says exactly the tool and the argument that were asked for.
"""

import contextlib
import json
import logging
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from openai import OpenAI

from server.starter import CHAT, FOLDER
from training.chat import tool_calls
from training.chat.facts import ROOT, Facts
from training.chat.held_out import HeldOutCall, held_out, held_out_calls
from training.chat.topics import holds, read_topics

logger = logging.getLogger(__name__)

CARD = FOLDER / "CHAT.md"
SEED = 5
TRIES = 15
_TABLE = re.compile(r"(?<=<!-- scores -->\n).*?(?=<!-- end -->)", re.DOTALL)

Json = dict[str, Any]


class Score(msgspec.Struct, frozen=True):
    """How many of `asked` were right."""

    name: str
    right: int
    asked: int


def evaluate() -> tuple[list[Score], float]:
    """Return the scores of the committed model, and how long its first token takes (milliseconds, median)."""
    with serving() as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="any")
        return [_questions(client), _calls(client)], statistics.median(_first_token(client) for _ in range(TRIES))


def into_card(scores: list[Score], first_token: float) -> None:
    """Write the scores into the model card."""
    rows = "".join(f"| {s.name} | {s.right} of {s.asked} | {100 * s.right / s.asked:.1f} % |\n" for s in scores)
    table = f"| asked | right | share |\n|---|---|---|\n{rows}"
    table += (
        f"\nThe first token of an answer came after {first_token:.0f} ms (median of {TRIES}, a busy two-core CPU).\n"
    )
    CARD.write_text(_TABLE.sub(lambda _: table, CARD.read_text(encoding="utf-8")), encoding="utf-8")
    for score in scores:
        logger.info("%s: %d of %d", score.name, score.right, score.asked)


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run `hearth serve --starter` on a free port without other models, and yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"HEARTH_STATE_DIR": folder, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "server", "serve", "--starter", "--port", "0", "--models", folder]
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            assert server.stdout is not None
            try:
                yield next(line for line in server.stdout if "listens on" in line).split()[-1]
            finally:
                server.terminate()


def call_asked(wanted: HeldOutCall, draw: random.Random) -> tuple[list[Json], str, Json]:
    """Return the tools to offer for a wish, and the name and arguments of the call that is right."""
    clock, brush = tool_calls.clock_tool(draw), tool_calls.brush_tool(draw)
    needed, other = (clock, brush) if wanted.name == "get_time" else (brush, clock)
    function = needed["function"]
    key = next(iter(function["parameters"]["properties"]))
    offered = [needed] if draw.random() < 0.5 else [needed, other]
    return offered, function["name"], {key: wanted.argument} if wanted.argument else {}


def _questions(client: OpenAI) -> Score:
    topics = read_topics(Facts(parameters=0))
    questions = held_out()
    right = 0
    for question in questions:
        must = topics[question.topic].must if question.topic else question.must
        answer = _message(client, question.text, []).content or ""
        if holds(answer, must):
            right += 1
        else:
            logger.info("wrong: %s -> %s", question.text, answer)
    return Score("questions in phrasings that the training never saw", right, len(questions))


def _calls(client: OpenAI) -> Score:
    draw = random.Random(SEED)
    wishes = held_out_calls()
    right = 0
    for wish in wishes:
        offered, name, arguments = call_asked(wish, draw)
        calls = _message(client, wish.text, offered).tool_calls or []
        said = [(call.function.name, json.loads(call.function.arguments)) for call in calls]
        if said == [(name, arguments)]:
            right += 1
        else:
            logger.info("wrong: %s -> %s", wish.text, said)
    return Score("calls of `get_time`, `generate_image` or `image_generation`", right, len(wishes))


def _first_token(client: OpenAI) -> float:
    """Return the milliseconds from a request to the first word of its answer."""
    asked: Any = [{"role": "user", "content": "How do I pull a model?"}]
    began = time.monotonic()
    with client.chat.completions.create(model=CHAT, messages=asked, stream=True, max_tokens=8) as stream:
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        return 1000 * (time.monotonic() - began)


def _message(client: OpenAI, text: str, tools: list[Json]) -> Any:
    more: Json = {"tools": tools} if tools else {}
    asked = [{"role": "user", "content": text}]
    answer = client.chat.completions.create(model=CHAT, messages=asked, temperature=0, max_tokens=200, **more)
    return answer.choices[0].message
