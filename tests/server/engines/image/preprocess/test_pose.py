import json
from typing import Any

import numpy as np
import pytest

from server.core.errors import InvalidValue
from server.engines.image.preprocess.pose import COLOURS, drawn


def pose(*people: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"people": list(people), "canvas_width": 80, "canvas_height": 60} | fields).encode()


def body(**joints: tuple[float, float]) -> dict[str, Any]:
    """A body with joints `j0`, `j1`, ... seen."""
    numbers = [0.0] * 54
    for name, (x, y) in joints.items():
        place = int(name[1:]) * 3
        numbers[place : place + 3] = [x, y, 1.0]
    return {"pose_keypoints_2d": numbers}


def test_a_limb_between_two_joints() -> None:
    made = np.asarray(drawn(pose(body(j1=(20, 30), j2=(60, 30)))))
    assert made.shape == (60, 80, 3)
    assert tuple(made[30, 20]) == COLOURS[1]
    assert tuple(made[30, 60]) == COLOURS[2]
    assert tuple(made[30, 40]) == tuple(int(level * 0.6) for level in COLOURS[0])
    assert not made[45:].any()


def test_joints_alone_have_no_limb() -> None:
    made = np.asarray(drawn(pose(body(j1=(20, 30), j4=(60, 30)))))
    assert made[30, 20].any()
    assert not made[30, 40].any()


def test_shares_of_the_canvas() -> None:
    whole, shares = (np.asarray(drawn(pose(body(j1=(x, y))))) for x, y in ((40, 30), (0.5, 0.5)))
    assert np.array_equal(whole, shares)


def test_hands_and_faces() -> None:
    hand = [value for k in range(21) for value in (10 + 2 * k, 20, 1)]
    made = np.asarray(drawn(pose({"hand_left_keypoints_2d": hand, "face_keypoints_2d": [70, 50, 1, 5, 5, 0]})))
    assert tuple(made[20, 10]) == (0, 0, 255)
    assert tuple(made[50, 70]) == (255, 255, 255)
    assert not made[5, 5].any()


def test_nobody() -> None:
    assert not np.asarray(drawn(pose())).any()


@pytest.mark.parametrize(
    "data",
    [
        b"no",
        b"[]",
        b"[" * 100_000,
        pose(canvas_width=0),
        pose(canvas_width=10**9),
        pose(canvas_width="x"),
        pose(canvas_width=8192, canvas_height=8192),
        pose(people=3),
        pose(*[{}] * 101),
        pose([]),  # type: ignore[arg-type]
        pose({"pose_keypoints_2d": [1, 2]}),
        pose({"pose_keypoints_2d": ["a", 1, 1]}),
        pose({"pose_keypoints_2d": [1, 1, 1] * 600}),
        json.dumps({"people": [], "canvas_width": float("nan"), "canvas_height": 8}).encode(),
        b" " * (4 * 1024 * 1024 + 1),
    ],
)
def test_what_is_no_pose(data: bytes) -> None:
    with pytest.raises(InvalidValue):
        drawn(data)


def test_joints_far_away_are_left_out() -> None:
    assert not np.asarray(drawn(pose(body(j1=(1e30, 2))))).any()
