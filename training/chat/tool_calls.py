"""Dialogues with tools: the time somewhere, and pictures. What a call must say is copied from the question."""

import json
import random
from typing import Any, NamedTuple

from compat.openai.picture_fields import ToolFields
from compat.openai.picture_tool.names import FAILED, SHOWN, TYPE
from compat.openai.picture_tool.tool import PictureTool
from server.core.models import ModelCard, ModelId, ModelKind, Runtime
from training.chat.strange import invented, noun

Json = dict[str, Any]

CITIES = (
    "Paris London Berlin Tokyo Moscow Rome Madrid Vienna Warsaw Lisbon Athens Oslo Stockholm Helsinki Copenhagen "
    "Dublin Beijing Delhi Cairo Nairobi Ottawa Toronto Chicago Boston Denver Seattle Miami Dallas Lima Santiago "
    "Bogota Sydney Melbourne Perth Seoul Singapore Bangkok Hanoi Manila Jakarta Istanbul Ankara Kyiv Minsk Riga "
    "Tallinn Vilnius Prague Budapest Bucharest Sofia Belgrade Zagreb Munich Hamburg Cologne Zurich Geneva Milan "
    "Naples Turin Barcelona Seville Porto Lyon Nice Brussels Amsterdam Rotterdam Edinburgh Glasgow Cardiff Belfast "
    "Kazan Omsk Samara Perm Sochi Mumbai Dubai Doha Tehran Baghdad Lagos Accra Tunis Rabat Havana Caracas Quito "
    "Montevideo"
).split()
TWO_WORDS = (
    "New York",
    "Los Angeles",
    "San Francisco",
    "Hong Kong",
    "Mexico City",
    "Buenos Aires",
    "Cape Town",
    "New Delhi",
)
_COLOURS = "red blue green yellow orange purple pink black white grey brown golden silver dark bright".split()
_SHAPES = "circle square triangle heart star house tree sun boat car face flower ball moon cloud fish bird cup".split()
_KINDS = "small big old tiny huge round happy sad lonely wooden beautiful ancient little strange".split()
_PLACES = (
    *("on a white background", "on a black background", "at night", "in the forest", "under the sea", "at dawn"),
    *("in the snow", "on a hill", "by a river", "in the rain", "on a blue background", "in the desert", "at sunset"),
)
_STYLES = ("as a sketch", "in oil", "in watercolour", "as pixel art", "in black and white", "as a photo")

_TIME = (
    *(
        "what time is it in {}",
        "what is the time in {}",
        "time in {}",
        "tell me the time in {}",
        "how late is it in {}",
    ),
    *(
        "what is the current time in {}",
        "what's the time in {} now",
        "can you tell me the time in {}",
        "which time is it in {}",
    ),
    *(
        "i need the time in {}",
        "please check the time in {}",
        "do you know what time it is in {}",
        "{}, what time is it there",
    ),
    *("current time in {} please", "get the time for {}", "what does the clock say in {}", "is it late in {}"),
)
_TIME_HERE = (
    "what time is it",
    "what is the time",
    "tell me the time",
    "how late is it",
    "time please",
    "current time",
)
_DRAW = (
    *(
        "draw {}",
        "paint {}",
        "make a picture of {}",
        "generate an image of {}",
        "can you draw {}",
        "create a picture of {}",
    ),
    *("i want a picture of {}", "show me a picture of {}", "please draw {}", "make an image of {}", "i want to see {}"),
    *("draw me {}", "generate {}", "please make a picture showing {}", "an image of {} please", "could you paint {}"),
    *("i would like a picture of {}", "picture: {}", "sketch {}", "render {}", "let me see {}", "paint me {}"),
)
_AGAIN = (
    *("repeat {}", "say {}", "repeat after me: {}", "please write {}", 'copy this: "{}"', "echo {}", "say {} again"),
    *("write: {}", "just say {}", 'say "{}"', "type {}", "answer with {}", "now {}", "only answer {}"),
)
NO_TOOL = "I have no tool for that here."
NO_CLOCK = "I cannot know the time without a tool: send `get_time` in `tools`."
NO_BRUSH = f"I only write text. Send the tool `{TYPE}` in `tools`, or ask the picture API: POST /sdapi/v1/txt2img."


class Asked(NamedTuple):
    """What is asked, and the call that answers it."""

    text: str
    name: str
    arguments: Json


def call_text(name: str, arguments: Json) -> str:
    """Return a call as Hermes models write it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def time_asked(draw: random.Random, tool: Json | None = None) -> Asked:
    """Return a question for the time; the name of the argument is taken from the tool's schema."""
    if draw.random() < 0.15:
        return Asked(draw.choice(_TIME_HERE), "get_time", {})
    kind = draw.random()
    place = (
        draw.choice(CITIES) if kind < 0.7 else draw.choice(TWO_WORDS) if kind < 0.85 else invented(draw).capitalize()
    )
    key = next(iter(tool["function"]["parameters"]["properties"]), "city") if tool else "city"
    return Asked(draw.choice(_TIME).format(place), "get_time", {key: place})


def picture_asked(draw: random.Random, tool: Json | None = None) -> Asked:
    """Return a wish for a picture, which the call repeats word by word."""
    thing = scene(draw)
    function = tool["function"] if tool else {"name": TYPE, "parameters": {"properties": {"prompt": {}}}}
    key = next(iter(function["parameters"]["properties"]))
    return Asked(draw.choice(_DRAW).format(thing), function["name"], {key: thing})


def said_again(draw: random.Random) -> tuple[str, str]:
    """Return a wish to say some words again, and the words."""
    kind = draw.random()
    if kind < 0.4:
        words = draw.choice(CITIES)
    elif kind < 0.5:
        words = draw.choice(TWO_WORDS)
    elif kind < 0.65:
        words = invented(draw).capitalize()
    elif kind < 0.8:
        words = scene(draw)
    else:
        words = " ".join(draw.choice((noun, invented))(draw) for _ in range(draw.randrange(1, 5)))
    return draw.choice(_AGAIN).format(words), words


def scene(draw: random.Random) -> str:
    """Return what a picture is to show."""
    subject = draw.choice(_SHAPES) if draw.random() < 0.5 else noun(draw)
    adjectives = [draw.choice(_COLOURS)] * (draw.random() < 0.6) + [draw.choice(_KINDS)] * (draw.random() < 0.3)
    draw.shuffle(adjectives)
    words = [*adjectives, subject]
    article = draw.choice(("an" if words[0][0] in "aeiou" else "a", "the", draw.choice(("two", "three"))))
    if article in ("two", "three"):
        words[-1] += "s"
    text = " ".join([article, *words])
    if draw.random() < 0.25:
        text += f" and a {draw.choice(_COLOURS)} {draw.choice(_SHAPES)}"
    if draw.random() < 0.6:
        text += f" {draw.choice(_PLACES)}"
    return f"{text} {draw.choice(_STYLES)}" if draw.random() < 0.15 else text


def clock_tool(draw: random.Random) -> Json:
    """Return a tool `get_time`, described in one of many ways."""
    key = draw.choices(("city", "timezone", "location", "place"), (6, 2, 2, 1))[0]
    about = draw.choice(
        (
            "Returns the time in a city.",
            "Get the current time",
            "Tells what time it is somewhere.",
            "The current time in a place.",
        )
    )
    told = {"type": "string"}
    if draw.random() < 0.5:
        told["description"] = draw.choice(("The city", "Where", "Name of the place", "e.g. Paris", "City name"))
    return _function("get_time", about, {key: told}, draw)


def brush_tool(draw: random.Random) -> Json:
    """Return a tool that makes pictures: the one that Hearth offers by itself, or `generate_image`."""
    if draw.random() < 0.4:
        return hosted()
    key = draw.choices(("prompt", "description", "text"), (8, 1, 1))[0]
    about = draw.choice(
        ("Makes a picture.", "Generate an image from a prompt", "Draws what the prompt says.", "Creates an image.")
    )
    told = {"type": "string"}
    if draw.random() < 0.5:
        told["description"] = draw.choice(
            ("What to draw", "The prompt", "What the picture shows", "Description of the image")
        )
    return _function("generate_image", about, {key: told}, draw)


def other_tool(draw: random.Random) -> Json:
    """Return a tool that none of the questions need."""
    name, key, about = draw.choice(
        (
            ("get_weather", "city", "Tells the weather."),
            ("web_search", "query", "Searches the web."),
            ("send_mail", "to", "Sends a mail."),
            ("read_file", "path", "Reads a file."),
        )
    )
    return _function(name, about, {key: {"type": "string"}}, draw)


def hosted() -> Json:
    """Return the function that Hearth offers a model for its own tool."""
    card = ModelCard(id=ModelId("x"), name="x", kind=ModelKind.CHECKPOINT, files=(), runtime=Runtime.DIFFUSION)
    tool = PictureTool(asked=ToolFields(), card=card, where="tools[0]", most=1).function()
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
    return {"type": "function", "function": function}


def clock_result(draw: random.Random, arguments: Json) -> tuple[str, str]:
    """Return what the tool answers, and what the model makes of it."""
    time = f"{draw.randrange(24):02d}:{draw.randrange(60):02d}"
    shown = draw.choice(
        (time, time, json.dumps({"time": time}), f"2026-{draw.randrange(10, 13)}-{draw.randrange(10, 29)} {time}")
    )
    place = next(iter(arguments.values()), "")
    return shown, f"It is {time} in {place}." if place else f"It is {time}."


def brush_result(draw: random.Random) -> tuple[str, str]:
    """Return what the tool answers, and what the model makes of it."""
    if draw.random() < 0.15:
        return draw.choice((FAILED, "error: out of memory", "error")), "The picture could not be made."
    return draw.choice((SHOWN, "ok", "done", '{"ok": true}', "image.png")), "Here is your picture."


def _function(name: str, about: str, properties: Json, draw: random.Random) -> Json:
    parameters: Json = {"type": "object", "properties": properties}
    if draw.random() < 0.6:
        parameters["required"] = list(properties)
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}
