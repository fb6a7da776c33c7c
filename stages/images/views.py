"""Augmented views of images, made in batches on the device where the images are.

Every image gets parameters of its own. Drawing them (`draw_view_parameters`) is apart from applying them (`make_views`), so
that each operation can be held against torchvision's functional one with the same parameters. Random resized crop and flip
are one pair of matrix products per image: a row of such a matrix holds the weights of the antialiasing triangle filter.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from math import ceil, log

import torch
from torch import Tensor

_GREY = (0.2989, 0.587, 0.114)
_HUGE = 1e30


@dataclass(frozen=True)
class ViewRecipe:
    """What may happen to an image on its way to a view.

    Attributes:
        size: height and width of the view in pixels.
        crop_min: smallest share of the image's area that a crop may cover, in (0, 1]; aspect ratio is within 3/4..4/3.
        flip: whether half of the views are mirrored left to right.
        brightness, contrast, saturation: factors are drawn from 1 - value..1 + value, not below 0.
        hue: turn of the colour circle, drawn from -hue..hue, at most 0.5.
        jitter_probability: share of the views whose brightness, contrast, saturation and hue change.
        greyscale_probability, blur_probability, solarize_probability: share of the views so changed.
    """

    size: int
    crop_min: float
    flip: bool
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter_probability: float = 0.0
    greyscale_probability: float = 0.0
    blur_probability: float = 0.0
    solarize_probability: float = 0.0


@dataclass(frozen=True)
class ViewParameters:
    """What happens to each of N images; every field is a tensor of shape (N,).

    `top`, `left`, `height`, `width` (pixels) are the crop; the factors are 1 and `hue` is 0 where nothing changes;
    `blur_sigma` is in pixels of the view and 0 for none.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    greyscale: Tensor
    blur_sigma: Tensor
    solarize: Tensor

    def to(self, device: torch.device) -> "ViewParameters":
        return ViewParameters(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def __getitem__(self, chosen: Tensor) -> "ViewParameters":
        return ViewParameters(*(getattr(self, field.name)[chosen] for field in fields(self)))


def _full_precision(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep an operation's matrix products in float32 where the model around it runs in lower precision."""

    @wraps(operation)
    def wrapped(images: Tensor, *arguments: Tensor | int) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return operation(images, *arguments)

    return wrapped


def draw_view_parameters(
    n: int, height: int, width: int, recipe: ViewRecipe, generator: torch.Generator
) -> ViewParameters:
    """Draw what happens to each of `n` images of `height` x `width` pixels.

    Crops follow torchvision's RandomResizedCrop: area uniform in crop_min..1, aspect ratio log-uniform in 3/4..4/3, the
    first of ten tries that fits, else a central crop. Jitter ranges follow its ColorJitter. Blur draws its sigma from
    0.1..2.0, as in BYOL (Grill et al. 2020, appendix B).
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape or (n,), generator=generator) * (high - low) + low

    area = height * width * uniform(recipe.crop_min, 1.0, n, 10)
    aspect = torch.exp(uniform(log(3 / 4), log(4 / 3), n, 10))
    tries_w = torch.round(torch.sqrt(area * aspect)).long()
    tries_h = torch.round(torch.sqrt(area / aspect)).long()
    fits = (tries_w > 0) & (tries_w <= width) & (tries_h > 0) & (tries_h <= height)
    first = fits.long().argmax(1, keepdim=True)
    fallback_w, fallback_h = _central_crop(height, width)
    found = fits.any(1)
    crop_w = torch.where(found, tries_w.gather(1, first).squeeze(1), fallback_w)
    crop_h = torch.where(found, tries_h.gather(1, first).squeeze(1), fallback_h)
    top = (uniform(0, 1) * (height - crop_h + 1)).long()
    left = (uniform(0, 1) * (width - crop_w + 1)).long()
    top = torch.where(found, top, (height - crop_h) // 2)
    left = torch.where(found, left, (width - crop_w) // 2)

    jitter = uniform(0, 1) < recipe.jitter_probability

    def factor(strength: float) -> Tensor:
        return torch.where(jitter, uniform(max(0.0, 1 - strength), 1 + strength), 1.0)

    return ViewParameters(
        top=top,
        left=left,
        height=crop_h,
        width=crop_w,
        flip=(uniform(0, 1) < 0.5) & recipe.flip,
        brightness=factor(recipe.brightness),
        contrast=factor(recipe.contrast),
        saturation=factor(recipe.saturation),
        hue=torch.where(jitter, uniform(-recipe.hue, recipe.hue), 0.0),
        greyscale=uniform(0, 1) < recipe.greyscale_probability,
        blur_sigma=torch.where(uniform(0, 1) < recipe.blur_probability, uniform(0.1, 2.0), 0.0),
        solarize=uniform(0, 1) < recipe.solarize_probability,
    )


def make_views(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Apply `parameters` to `images`.

    The order is fixed: crop and flip, brightness, contrast, saturation, hue, greyscale, blur, solarize.

    Args:
        images: (N, H, W, 3) uint8.
        parameters: N of each, on the CPU, so that a GPU need not be waited for to know which images an operation is for.
        size: height and width of the views.

    Returns:
        (N, 3, size, size) float32 in 0..1, in channels_last memory.
    """
    device = images.device
    drawn, p = parameters, parameters.to(device)

    def which(changed: Tensor) -> Tensor:
        return torch.nonzero(changed).squeeze(1).to(device, non_blocking=True)

    views = crop_resize(images, p.top, p.left, p.height, p.width, p.flip, size)
    views = adjust_brightness(views, p.brightness)
    views = adjust_contrast(views, p.contrast)
    views = adjust_saturation(views, torch.where(p.greyscale & (p.hue == 0), 0.0, p.saturation))
    if len(turned := which(drawn.hue)):
        views[turned] = adjust_hue(views[turned], p.hue[turned])
    if len(grey := which(drawn.greyscale & (drawn.hue != 0))):
        views[grey] = _grey(views[grey]).expand(-1, 3, -1, -1)
    if len(blurred := which(drawn.blur_sigma)):
        views[blurred] = gaussian_blur(views[blurred], p.blur_sigma[blurred])
    if len(solarized := which(drawn.solarize)):
        views[solarized] = solarize(views[solarized])
    return views.contiguous(memory_format=torch.channels_last)


def draw_views(images: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
    """One random view of each image: (N, H, W, 3) uint8 to (N, 3, size, size) float32 in 0..1."""
    n, height, width, _ = images.shape
    parameters = draw_view_parameters(n, height, width, recipe, generator)
    return make_views(images, parameters, recipe.size)


def plain_views(images: Tensor, size: int) -> Tensor:
    """The central 7/8 of each image, resized without aliasing: (N, H, W, 3) uint8 to (N, 3, size, size) float32 in 0..1.

    The margin is left out because random crops show objects larger than whole images do; 7/8 is the customary 224 of 256
    pixels (Touvron et al. 2019, Fixing the train-test resolution discrepancy, section 3).
    """
    n, height, width, _ = images.shape
    top, left = height // 16, width // 16
    same = torch.zeros(n, dtype=torch.long, device=images.device)
    return crop_resize(
        images, same + top, same + left, same + height - 2 * top, same + width - 2 * left, same.bool(), size
    )


@_full_precision
def crop_resize(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, flip: Tensor, size: int
) -> Tensor:
    """Cut a box from each image, resize it without aliasing, and mirror it where `flip`.

    Equals torchvision's `resized_crop(..., antialias=True)` on float images, then `hflip`.

    Args:
        images: (N, H, W, 3) uint8.
        top, left, height, width: (N,) boxes in pixels, inside the images.
        flip: (N,) bool.
        size: height and width of the result.

    Returns:
        (N, 3, size, size) float32 in 0..1.
    """
    n, full_height, full_width, _ = images.shape
    rows = _resize_weights(top, height, full_height, size)
    columns = _resize_weights(left, width, full_width, size)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    pixels = images.reshape(n, full_height, full_width * 3).float()
    squeezed = torch.bmm(rows / 255, pixels).reshape(n, size, full_width, 3)
    planes = squeezed.permute(0, 3, 1, 2).reshape(n, 3 * size, full_width)
    return torch.bmm(planes, columns.transpose(1, 2)).reshape(n, 3, size, size)


def _resize_weights(start: Tensor, length: Tensor, full: int, size: int) -> Tensor:
    """(N, size, full) weights that resize pixels start..start + length of a line of `full` pixels to `size` pixels."""
    device = start.device
    scale = (length.float() / size)[:, None, None]
    support = scale.clamp_min(1.0)
    centre = (torch.arange(size, device=device) + 0.5)[None, :, None] * scale
    pixel = torch.arange(full, device=device)[None, None, :] - start[:, None, None]
    weights = (1 - ((pixel + 0.5 - centre) / support).abs()).clamp_min(0)
    weights = weights * ((pixel >= 0) & (pixel < length[:, None, None])).float()
    return weights / weights.sum(2, keepdim=True)


def adjust_brightness(views: Tensor, factor: Tensor) -> Tensor:
    """Multiply each of (N, 3, H, W) views in 0..1 by its factor (N,), as torchvision's `adjust_brightness`."""
    return (views * factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(views: Tensor, factor: Tensor) -> Tensor:
    """Move each of (N, 3, H, W) views towards or from its mean grey, as torchvision's `adjust_contrast`."""
    grey = _grey(views)
    mean = grey.mean((1, 2, 3), keepdim=True).expand_as(grey).contiguous()
    return torch.lerp(mean, views, factor[:, None, None, None]).clamp_(0, 1)


def adjust_saturation(views: Tensor, factor: Tensor) -> Tensor:
    """Move each of (N, 3, H, W) views towards or from its own grey, as torchvision's `adjust_saturation`."""
    return torch.lerp(_grey(views), views, factor[:, None, None, None]).clamp_(0, 1)


def adjust_hue(views: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of each of (N, 3, H, W) views in 0..1 by `turn` (N,) in -0.5..0.5, as torchvision's `adjust_hue`.

    Value and chroma stay and each channel is read off a trapezoid over the hue circle (Smith 1978, HSV; the closed form
    of Foley et al., Computer Graphics, section 13.3).
    """
    red, green, blue = views.unbind(1)
    value = views.amax(1)
    chroma = value - views.amin(1)
    some = chroma.clamp_min(1 / _HUGE)
    unless_green = torch.lerp((blue - red).div_(some).add_(2), (red - green).div_(some).add_(4), _above(value, green))
    hue = torch.lerp((green - blue).div_(some), unless_green, _above(value, red))
    hue += 6 * turn[:, None, None]
    offsets = torch.tensor([5.0, 3.0, 1.0], device=views.device)[None, :, None, None]
    place = hue[:, None] + offsets
    place -= 6 * torch.floor(place / 6)
    fall = torch.minimum(place, 4 - place).clamp_(0, 1)
    return value[:, None] - fall.mul_(chroma[:, None])


def _above(values: Tensor, others: Tensor) -> Tensor:
    """1 where one is above the other and 0 elsewhere; as a weight of `lerp` it chooses ten times as fast as `where` on a CPU."""
    return (values - others).mul_(_HUGE).clamp_(0, 1)


@_full_precision
def gaussian_blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur each of (N, 3, H, W) views by its `sigma` (N,) in pixels, as torchvision's `gaussian_blur`.

    The kernel spans a tenth of the view, at least 3 pixels and always an odd number (Chen et al. 2020, SimCLR, appendix A);
    edges are reflected.
    """
    height, width = views.shape[-2:]
    rows = _blur_weights(sigma, height, blur_kernel_size(height))
    columns = _blur_weights(sigma, width, blur_kernel_size(width))
    return rows[:, None] @ views @ columns[:, None].transpose(-1, -2)


def blur_kernel_size(pixels: int) -> int:
    """Pixels that the blur kernel spans in a view of `pixels`: about a tenth, odd, at least 3."""
    return max(3, 2 * ceil((pixels // 10 - 1) / 2) + 1)


def _blur_weights(sigma: Tensor, pixels: int, kernel: int) -> Tensor:
    """(N, pixels, pixels) banded matrices: a Gaussian kernel with the reflected edges folded in."""
    reach = kernel // 2
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    gauss = torch.exp(-0.5 * (offset[None, :] / sigma[:, None]) ** 2)
    gauss = gauss / gauss.sum(1, keepdim=True)
    source = torch.arange(pixels, device=sigma.device)[:, None] + offset[None, :]
    source = source.abs()
    source = torch.where(source >= pixels, 2 * (pixels - 1) - source, source)
    picks = torch.nn.functional.one_hot(source, pixels).to(gauss.dtype)
    return torch.einsum("nk,pkq->npq", gauss, picks)


def solarize(views: Tensor) -> Tensor:
    """Invert what is at least 0.5 in (N, 3, H, W) views in 0..1, as torchvision's `solarize` with that threshold."""
    return torch.where(views >= 0.5, 1 - views, views)


def _grey(views: Tensor) -> Tensor:
    """(N, 1, H, W) luma of (N, 3, H, W) views, with the weights of torchvision (ITU-R BT.601)."""
    red, green, blue = views.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue)[:, None]


def _central_crop(height: int, width: int) -> tuple[int, int]:
    """Width and height of the largest central box with an aspect ratio within 3/4..4/3."""
    if width < height * 3 / 4:
        return width, round(width / (3 / 4))
    if width > height * 4 / 3:
        return round(height * (4 / 3)), height
    return width, height
