"""The tests run with shape and type checks on; these tests prove that the checks bite."""

import jaxtyping
import pytest
import torch

from gaussiantalker_ns.dataparsers import cameras


def test_wrong_shape_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError):
        cameras.head_pose_from_opengl(torch.zeros(3, 5))


def test_wrong_type_is_refused():
    with pytest.raises(jaxtyping.TypeCheckError):
        cameras.head_pose_from_opengl("not a pose")
