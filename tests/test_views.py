"""Views in batches against torchvision's functional operations, image by image, with the same parameters."""

from dataclasses import fields, replace

import pytest
import torch
import torchvision.transforms.v2.functional as tv

from stages.images import views
from stages.images.views import ViewRecipe, center_crop_views, draw_view_parameters, draw_views, make_views

RECIPE = ViewRecipe(24, 0.1, True, 0.4, 0.4, 0.4, 0.2, 0.7, 0.3, 0.4, 0.3)


def _images(n=48, height=40, width=52):
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def _planes(images):
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize(("height", "width", "hue"), [(40, 52, 0.2), (52, 40, 0.2), (40, 52, 0.0)])
def test_make_views_equals_torchvision(height, width, hue):
    images = _images(48, height, width)
    p = draw_view_parameters(48, height, width, replace(RECIPE, hue=hue), torch.Generator().manual_seed(2))
    assert (p.greyscale & (p.saturation > 1)).any()
    for field in ("flip", "greyscale", "blur_sigma", "solarize", *["hue"] * (hue > 0)):
        assert 0 < torch.count_nonzero(getattr(p, field)) < 48, f"{field} must occur, and not everywhere"
    found = make_views(images, p, 24)
    for i, image in enumerate(_planes(images)):
        box = [int(p.top[i]), int(p.left[i]), int(p.height[i]), int(p.width[i])]
        view = tv.resized_crop(image, *box, [24, 24], antialias=True)
        view = tv.horizontal_flip(view) if p.flip[i] else view
        view = tv.adjust_brightness(view, p.brightness[i].item())
        view = tv.adjust_contrast(view, p.contrast[i].item())
        view = tv.adjust_saturation(view, p.saturation[i].item())
        view = tv.adjust_hue(view, p.hue[i].item())
        view = tv.rgb_to_grayscale(view, 3) if p.greyscale[i] else view
        if p.blur_sigma[i]:
            view = tv.gaussian_blur(view, [views.blur_kernel_size(24)] * 2, [p.blur_sigma[i].item()] * 2)
        if p.solarize[i]:
            apart = (view - 0.5).abs() > 1e-3  # a rounding error at the threshold flips a pixel
            torch.testing.assert_close(found[i][apart], tv.solarize(view, 0.5)[apart], rtol=0, atol=5e-4)
        else:
            torch.testing.assert_close(found[i], view, rtol=0, atol=5e-4)


def test_make_views_is_independent_of_batch():
    images = _images(150)
    p = draw_view_parameters(300, 40, 52, RECIPE, torch.Generator().manual_seed(2))
    twins = make_views(images, p, 24)
    assert torch.equal(twins, make_views(torch.cat([images, images]), p, 24))
    apart = torch.cat([make_views(images[i % 150][None], p[torch.tensor([i])], 24) for i in range(300)])
    some = ~p.solarize  # a rounding error at the threshold flips a pixel
    torch.testing.assert_close(twins[some], apart[some], rtol=0, atol=2e-5)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("size", [8, 24, 40, 64])
def test_crop_resize_equals_torchvision(size, fused, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: fused)  # the sums that a compiler gets, without one
    images = _images(6)
    top, left = torch.tensor([0, 3, 0, 39, 10, 5]), torch.tensor([0, 7, 51, 0, 1, 2])
    height, width = torch.tensor([40, 20, 40, 1, 30, 8]), torch.tensor([52, 30, 1, 52, 8, 50])
    found = views.crop_resize(images, top, left, height, width, torch.zeros(6, dtype=torch.bool), size)
    found = found.permute(0, 2, 3, 1)
    for i, image in enumerate(_planes(images)):
        box = [int(top[i]), int(left[i]), int(height[i]), int(width[i])]
        expected = tv.resized_crop(image, *box, [size, size], antialias=True)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("mine", "theirs", "values"),
    [
        (views.adjust_brightness_, tv.adjust_brightness, [0.0, 0.6, 1.0, 1.4]),
        (views.adjust_contrast_, tv.adjust_contrast, [0.0, 0.6, 1.0, 1.4]),
        (views.adjust_saturation_, tv.adjust_saturation, [0.0, 0.6, 1.0, 1.4]),
        (views.adjust_hue, tv.adjust_hue, [-0.5, -0.1, 0.0, 0.1, 0.5]),
    ],
)
def test_colour_operations_equal_torchvision(mine, theirs, values):
    planes = _planes(_images(len(values)))
    planes[0, :, :5] = 0.5
    found = mine(planes.permute(0, 3, 1, 2).contiguous(), torch.tensor(values)).permute(0, 2, 3, 1)
    for i, value in enumerate(values):
        torch.testing.assert_close(found[i], theirs(planes[i], value), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_gaussian_blur_equals_torchvision(sigma):
    planes = _planes(_images(2))
    expected = tv.gaussian_blur(planes, [views.blur_kernel_size(52), views.blur_kernel_size(40)], [sigma, sigma])
    found = views.gaussian_blur(planes.permute(0, 3, 1, 2), torch.full((2,), sigma)).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_center_crop_views_equal_torchvision():
    images = _images(3)
    torch.testing.assert_close(
        center_crop_views(images, 24),
        tv.resize(tv.center_crop(_planes(images), [36, 46]), [24, 24], antialias=True),
        rtol=0,
        atol=2e-5,
    )


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 97), (97, 20), (8, 8), (1, 64)])
def test_draw_view_parameters_keeps_crops_inside_and_within_range(height, width):
    recipe = ViewRecipe(8, 0.3, True)
    p = draw_view_parameters(2000, height, width, recipe, torch.Generator().manual_seed(3))
    assert (p.top >= 0).all()
    assert (p.left >= 0).all()
    assert (p.top + p.height <= height).all()
    assert (p.left + p.width <= width).all()
    if height == width:
        share = p.height * p.width / (height * width)
        assert share.min() > 0.3 - 2.5 / height
        ratio = p.width / p.height
        assert ratio.min() > 0.75 - 2.5 / height
        assert ratio.max() < 4 / 3 + 6 / height


def test_draw_view_parameters_gives_second_views_the_second_probability():
    recipe = ViewRecipe(8, 0.3, True, blur_probability=(1.0, 0.0), solarize_probability=[0.0, 1.0])
    p = draw_view_parameters(10, 20, 20, recipe, torch.Generator(), second_views=4)
    assert (p.blur_sigma > 0).tolist() == [True] * 6 + [False] * 4
    assert p.solarize.tolist() == [False] * 6 + [True] * 4
    same, pair = (
        draw_view_parameters(50, 20, 20, ViewRecipe(8, 0.3, True, blur_probability=b), torch.Generator(), 20)
        for b in (0.3, (0.3, 0.3))
    )
    assert torch.equal(same.blur_sigma, pair.blur_sigma)


def test_draw_views_follows_generator():
    images = _images(2)[:1].expand(16, -1, -1, -1)
    one, two = (draw_views(images, RECIPE, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert len(torch.unique(one.flatten(1), dim=0)) == 16


def test_draw_views_is_channels_last_and_in_range():
    view = draw_views(_images(), RECIPE, torch.Generator().manual_seed(5))
    assert view.is_contiguous(memory_format=torch.channels_last)
    assert view.min() >= -1e-6
    assert view.max() <= 1 + 1e-6


def test_draw_view_parameters_of_zero_strength_keeps_colours():
    p = draw_view_parameters(100, 9, 9, ViewRecipe(9, 1.0, False), torch.Generator())
    same = {"brightness": 1, "contrast": 1, "saturation": 1}
    assert all(
        (getattr(p, field.name) == same.get(field.name, 0)).all()
        for field in fields(p)
        if field.name not in ("height", "width")
    )


def test_views_ignore_autocast():
    images = _images()
    expected, plain = draw_views(images, RECIPE, torch.Generator().manual_seed(6)), center_crop_views(images, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(draw_views(images, RECIPE, torch.Generator().manual_seed(6)), expected)
        assert torch.equal(center_crop_views(images, 24), plain)
