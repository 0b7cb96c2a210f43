"""People drawn as coloured sticks from their joints, in the way that control models for poses were trained on.

Joints come in OpenPose's JSON (its documentation, "Output format"): `people`, each with lists of x, y and confidence,
beside `canvas_width` and `canvas_height`. Coordinates up to 1 are shares of the canvas. Needs only Pillow.
"""

import colorsys
import json
import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from server.core.errors import InvalidValue

Point = tuple[float, float]
Joints = list[Point | None]
Rgb = tuple[int, int, int]

MOST_BYTES = 4 * 1024 * 1024
MOST_PEOPLE = 100
MOST_JOINTS = 512
LARGEST_SIDE = 8192
MOST_PIXELS = 16_777_216

BODY, HAND, HANDS = 18, 21, ("hand_left_keypoints_2d", "hand_right_keypoints_2d")

LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10)),
    *((1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
"""Pairs of the body's joints: neck 1, nose 0, shoulders 2 and 5, hips 8 and 11, eyes 14 and 15, ears 16 and 17."""

COLOURS: tuple[Rgb, ...] = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
    *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
    *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)

DIMMED = 0.6
"""Limbs are darker than joints."""

THICKNESS, JOINT, FACE_DOT = 4, 4, 3
FINGER_BONES = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, HAND))


def drawn(data: bytes) -> Image.Image:
    """Return the picture of a pose.

    Raises:
        InvalidValue: it is no such JSON, or larger than a pose is.
    """
    pose = _read(data)
    size = _side(pose, "canvas_width"), _side(pose, "canvas_height")
    if size[0] * size[1] > MOST_PIXELS:
        raise _wrong(f"the canvas has more than {MOST_PIXELS} pixels")
    image = Image.new("RGB", size)
    people = pose.get("people")
    if not isinstance(people, list) or len(people) > MOST_PEOPLE:
        raise _wrong(f"people is a list of up to {MOST_PEOPLE}")
    for person in people:
        if not isinstance(person, dict):
            raise _wrong("each of the people is an object")
        image = _with_body(image, _joints(person, "pose_keypoints_2d", size))
        for hand in HANDS:
            _draw_hand(ImageDraw.Draw(image), _joints(person, hand, size))
        for point in _joints(person, "face_keypoints_2d", size):
            if point is not None:
                _dot(ImageDraw.Draw(image), point, FACE_DOT, (255, 255, 255))
    return image


def _read(data: bytes) -> dict[str, Any]:
    if len(data) > MOST_BYTES:
        raise _wrong(f"it has more than {MOST_BYTES} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise _wrong("it is no JSON") from None
    if not isinstance(found, dict):
        raise _wrong("it is no JSON object")
    return found


def _side(pose: dict[str, Any], name: str) -> int:
    value = pose.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= LARGEST_SIDE:
        raise _wrong(f"{name} is 1 ... {LARGEST_SIDE}")
    return int(value)


def _joints(person: dict[str, Any], name: str, size: tuple[int, int]) -> Joints:
    """Return the joints of a part in pixels, None for those that were not seen."""
    numbers = person.get(name) or []
    if not isinstance(numbers, list) or len(numbers) % 3 or len(numbers) > 3 * MOST_JOINTS:
        raise _wrong(f"{name} is a list of threes")
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise _wrong(f"{name} holds what is no number")
    triples = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
    shares = all(abs(x) <= 1 and abs(y) <= 1 for x, y, _ in triples)
    across, down = size if shares else (1, 1)
    far = 4.0 * LARGEST_SIDE
    return [(x * across, y * down) if seen > 0 and abs(x) < far and abs(y) < far else None for x, y, seen in triples]


def _with_body(image: Image.Image, joints: Joints) -> Image.Image:
    joints = [*joints, *[None] * BODY][:BODY]
    draw = ImageDraw.Draw(image)
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        one, other = joints[a], joints[b]
        if one is not None and other is not None:
            draw.polygon(_ellipse(one, other), fill=colour)
    image = image.point([int(level * DIMMED) for level in range(256)] * 3)
    draw = ImageDraw.Draw(image)
    for point, colour in zip(joints, COLOURS, strict=True):
        if point is not None:
            _dot(draw, point, JOINT, colour)
    return image


def _ellipse(one: Point, other: Point) -> list[Point]:
    """Return an ellipse around the line between two points, as a polygon in steps of a degree."""
    middle = int((one[0] + other[0]) / 2), int((one[1] + other[1]) / 2)
    length = int(math.dist(one, other) / 2)
    angle = math.radians(int(math.degrees(math.atan2(one[1] - other[1], one[0] - other[0]))))
    points: list[Point] = []
    for degree in range(360):
        along, aside = length * math.cos(math.radians(degree)), THICKNESS * math.sin(math.radians(degree))
        x = middle[0] + along * math.cos(angle) - aside * math.sin(angle)
        y = middle[1] + along * math.sin(angle) + aside * math.cos(angle)
        points.append((round(x), round(y)))
    return points


def _draw_hand(draw: ImageDraw.ImageDraw, joints: Joints) -> None:
    if len(joints) < HAND:
        return
    for number, (a, b) in enumerate(FINGER_BONES):
        one, other = joints[a], joints[b]
        if one is not None and other is not None:
            draw.line([_whole(one), _whole(other)], fill=_hue(number / len(FINGER_BONES)), width=2)
    for point in joints:
        if point is not None:
            _dot(draw, point, JOINT, (0, 0, 255))


def _hue(share: float) -> Rgb:
    red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(share, 1.0, 1.0))
    return red, green, blue


def _dot(draw: ImageDraw.ImageDraw, point: Point, radius: int, colour: Rgb) -> None:
    x, y = _whole(point)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _whole(point: Sequence[float]) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _wrong(text: str) -> InvalidValue:
    return InvalidValue.of("poses", f"this is no pose: {text}")
