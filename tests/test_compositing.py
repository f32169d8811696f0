"""Compositing: worked examples one can draw, and a moved layer against the obvious loop."""

import numpy as np
import pytest
import torch

from gaussiantalker_ns.kernels.tiles import paint_head
from gaussiantalker_ns.rendering.compositing import (
    PinholeView,
    alpha_composite,
    blend_into_source,
    composite_uint8,
    is_same_view,
    pinhole_view,
    place_layer,
    resize_to_cover,
)

VIEW = PinholeView(centre_x=8.0, centre_y=8.0, pixels_per_unit=10.0, width=16, height=16)


def test_over_is_premultiplied():
    head = torch.full((1, 1, 1, 3), 0.4)
    alpha = torch.full((1, 1, 1, 1), 0.5)
    assert alpha_composite(head, alpha, torch.ones(1, 1, 1, 3)).flatten().tolist() == pytest.approx(
        [0.9] * 3
    )


def test_pinhole_view_of_a_head_two_units_away():
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.2, -0.1, 2.0])
    K = torch.tensor([[100.0, 0, 32], [0, 100, 32], [0, 0, 1]])
    view = pinhole_view(pose, K, 64, 64)
    assert (view.centre_x, view.centre_y) == pytest.approx((42.0, 27.0))
    assert view.pixels_per_unit == pytest.approx(50.0)


def test_cover_keeps_the_middle_and_the_shape():
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 4:12] = 200
    covered = resize_to_cover(image, 8, 8)
    assert covered.shape == (8, 8, 3)
    assert (covered == 200).all()


def test_a_layer_of_the_same_view_stays_where_it_is():
    layer = np.zeros((16, 16, 4), np.uint8)
    layer[10:, :, 0], layer[10:, :, 3] = 250, 255
    background = np.full((16, 16, 3), 50, np.uint8)
    placed = place_layer(layer, background, VIEW, VIEW)
    assert (placed[:10] == 50).all()
    assert (placed[10:, :, 0] == 250).all()
    assert (placed[10:, :, 1] == 0).all()
    assert is_same_view(VIEW, VIEW)


def test_a_layer_follows_a_head_that_moved_to_the_right():
    layer = np.zeros((16, 16, 4), np.uint8)
    layer[8, 8] = 255
    background = np.zeros((16, 16, 3), np.uint8)
    moved = PinholeView(11.0, 8.0, 10.0, 16, 16)
    placed = place_layer(layer, background, VIEW, moved)
    assert not is_same_view(VIEW, moved)
    assert np.argwhere(placed[..., 0] > 128).tolist() == [[8, 11]]


def test_a_closer_camera_makes_the_layer_larger():
    layer = np.zeros((16, 16, 4), np.uint8)
    layer[6:10, 6:10] = 255
    background = np.zeros((16, 16, 3), np.uint8)
    closer = PinholeView(8.0, 8.0, 20.0, 16, 16)
    placed = place_layer(layer, background, VIEW, closer)
    assert (placed[..., 0] > 128).sum() == pytest.approx(64, abs=20)


def test_paste_back_keeps_the_source_outside_and_the_render_inside():
    rendered, source = torch.ones(32, 32, 3), torch.zeros(32, 32, 3)
    mask = torch.zeros(32, 32)
    mask[8:24, 8:24] = 1
    blended = blend_into_source(rendered, source, mask)
    assert blended[0, 0].max() == 0
    assert blended[16, 16].min() == 1
    assert torch.equal(blend_into_source(rendered, rendered, mask), rendered)


@pytest.mark.parametrize("box", [(0, 0, 40, 32), (5, 3, 36, 30), (7, 9, 8, 10)])
def test_the_kernel_paints_the_same_bytes_as_torch(box: tuple[int, int, int, int]):
    """Colours a little outside [0, 1] too; around the box the picture stays."""
    generator = np.random.default_rng(1)
    x0, y0, x1, y1 = box
    picture = generator.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    rgb = generator.uniform(-0.1, 1.1, (y1 - y0, x1 - x0, 3)).astype(np.float32)
    alpha = generator.uniform(0, 1, (y1 - y0, x1 - x0, 1)).astype(np.float32)
    window = torch.from_numpy(picture[y0:y1, x0:x1].copy())
    expected = picture.copy()
    expected[y0:y1, x0:x1] = composite_uint8(torch.from_numpy(rgb), torch.from_numpy(alpha), window)
    paint_head(rgb, alpha, picture[y0:y1, x0:x1])
    assert np.array_equal(picture, expected)
