"""Planes drawn by hand for people whose joints are known come back as these people."""

import json

import numpy as np
import pytest

from server.engines.image.annotators.body_pose import pose_json
from server.engines.image.annotators.people import JOINTS, LIMBS, MOST_PEAKS, peaks_of, people_of
from server.engines.image.preprocess import pose

HEIGHT, WIDTH = 160, 240

STANDING = {
    0: (40, 20),
    1: (40, 40),
    2: (25, 42),
    3: (20, 65),
    4: (18, 85),
    5: (55, 42),
    6: (60, 65),
    7: (62, 85),
    8: (32, 85),
    9: (31, 110),
    10: (30, 135),
    11: (48, 85),
    12: (49, 110),
    13: (50, 135),
    14: (36, 16),
    15: (44, 16),
    16: (30, 19),
    17: (50, 19),
}
Joints = dict[int, tuple[int, int]]


def moved(joints: Joints, across: int) -> Joints:
    return {number: (x + across, y) for number, (x, y) in joints.items()}


def planes_of(*people: Joints) -> tuple[np.ndarray, np.ndarray]:
    """Return the planes that a perfect network would give."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    limbs, joints = np.zeros((38, HEIGHT, WIDTH), np.float32), np.zeros((19, HEIGHT, WIDTH), np.float32)
    for person in people:
        for number, (px, py) in person.items():
            joints[number] = np.maximum(joints[number], np.exp(-((x - px) ** 2 + (y - py) ** 2) / 50))
        for a, b, plane in LIMBS:
            if a in person and b in person:
                one, other = np.array(person[a], float), np.array(person[b], float)
                way = (other - one) / np.hypot(*(other - one))
                along = (x - one[0]) * way[0] + (y - one[1]) * way[1]
                aside = np.abs((x - one[0]) * way[1] - (y - one[1]) * way[0])
                inside = (along >= -2) & (along <= np.hypot(*(other - one)) + 2) & (aside <= 3)
                limbs[plane][inside], limbs[plane + 1][inside] = way
    return limbs, joints


@pytest.mark.parametrize(
    "people",
    [
        [STANDING],
        [STANDING, moved(STANDING, 90)],
        [STANDING, moved(STANDING, 70), moved(STANDING, 150)],
        [{number: at for number, at in STANDING.items() if number not in (3, 4, 16)}],
    ],
)
def test_people_are_found_with_their_own_joints(people: list[Joints]) -> None:
    found = people_of(*planes_of(*people))
    places = [{number: (peak.x, peak.y) for number, peak in one.joints.items()} for one in found]
    assert sorted(places, key=lambda one: one[1]) == sorted(people, key=lambda one: one[1])


def test_what_has_too_few_joints_is_nobody() -> None:
    assert people_of(*planes_of({0: (40, 20), 1: (40, 40), 14: (36, 16)})) == []
    assert people_of(*planes_of()) == []


def test_noise_is_bounded() -> None:
    plane = np.zeros((400, 400), np.float32)
    plane[4::12, 4::12] = 60.0
    assert len(peaks_of(plane)) == MOST_PEAKS


def test_what_is_found_is_drawn_in_place() -> None:
    people = people_of(*planes_of(STANDING))
    told = json.loads(pose_json(people, WIDTH, HEIGHT))
    assert len(told["people"][0]["pose_keypoints_2d"]) == 3 * JOINTS
    image = pose.drawn(pose_json(people, WIDTH, HEIGHT))
    assert image.size == (WIDTH, HEIGHT)
    assert image.getpixel(STANDING[0]) == pose.COLOURS[0], "the nose"
    assert image.getpixel((200, 80)) == (0, 0, 0)
