"""Augmented views of images, made in batches on the device where the images are.

Every image gets parameters of its own. Drawing them (`draw_view_parameters`) is apart from applying them (`make_views`), so
that each operation can be held against torchvision's functional one with the same parameters.

Random resized crop and flip are weighted sums of pixel rows, then of pixel columns, with the few weights of the antialiasing
triangle filter that are not 0. They leave views as (N, columns, 3, rows), so that operations on colours run over whole columns of
one channel; the end puts the channels last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from math import ceil, log

import torch
from torch import Tensor
from torch.nn.functional import channel_shuffle, embedding_bag

_GREY = (0.2989, 0.587, 0.114)
_TINY = 1e-12
_VIEWS_IN_CACHE = 32


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


def crop_and_colour(
    images: Tensor,
    rows: Tensor,
    row_weights: Tensor,
    columns: Tensor,
    column_weights: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor | None = None,
) -> Tensor:
    """What happens to every view: crop and flip, then brightness, contrast, saturation and hue in this order.

    Args:
        images: (N, H, W, 3) uint8.
        rows, row_weights, columns, column_weights: see `_crops`; views i, N + i, 2 N + i and so on are of image i.
        brightness, contrast, saturation: (k N,) factors.
        hue: (k N,) turns, or None where nothing is turned.

    Returns:
        (k N, size, size, 3) float32 in 0..1 but for rounding.
    """
    # Not `crop_resize`: a compiler stops at a transposition, and inside of a function that is called it would fuse nothing around it.
    upright = _transposed(_row_sums(images, rows, row_weights))
    views = _column_sums(upright, columns, column_weights)
    views = adjust_brightness_(views, brightness)
    views = adjust_contrast_(views, contrast)
    views = adjust_saturation_(views, saturation)
    return _pixels(views if hue is None else adjust_hue(views, hue))


def make_views(
    images: Tensor, parameters: ViewParameters, size: int, change_all: Callable[..., Tensor] = crop_and_colour
) -> Tensor:
    """Apply `parameters` to `images`.

    The order is fixed: crop and flip, brightness, contrast, saturation, hue, greyscale, blur, solarize.

    Args:
        images: (N, H, W, 3) uint8.
        parameters: of k N views, k of each image: views i, N + i, 2 N + i and so on are of image i. They are on the CPU, so that
            a GPU need not be waited for to know which views an operation is for.
        size: height and width of the views.
        change_all: `crop_and_colour`, or the same compiled.

    Returns:
        (k N, 3, size, size) float32 in 0..1 but for rounding, in channels_last memory.
    """
    n, per_image = len(images), len(parameters.top) // len(images)
    p = parameters.to(images.device)
    crops = _crops(p.top, p.left, p.height, p.width, p.flip, images.shape[1:3], size)
    # Grey is no saturation where the colours are not turned later, nor clamped before.
    desaturated = parameters.greyscale & (parameters.hue == 0) & (parameters.saturation <= 1)
    saturation = torch.where(desaturated.to(images.device, non_blocking=True), 0.0, p.saturation)
    colours = [p.brightness, p.contrast, saturation, *([p.hue] if parameters.hue.any() else [])]
    # On a CPU, what one operation writes of a block is still in the cache when the next one reads it.
    block = n if images.is_cuda else max(1, _VIEWS_IN_CACHE * torch.get_num_threads() // per_image)

    def of_block(values: Sequence[Tensor], start: int) -> list[Tensor]:
        return [value.unflatten(0, (per_image, n))[:, start : start + block].flatten(0, 1) for value in values]

    blocks = [
        change_all(images[start : start + block], *of_block([*crops, *colours], start)) for start in range(0, n, block)
    ]
    if len(blocks) > 1:
        views = torch.cat([views.unflatten(0, (per_image, -1)) for views in blocks], 1).flatten(0, 1)
    else:
        (views,) = blocks

    def change_some(which: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
        if len(chosen := torch.nonzero(which).squeeze(1).to(images.device, non_blocking=True)):
            views.index_copy_(0, chosen, operation(views.index_select(0, chosen), chosen))

    change_some(parameters.greyscale & ~desaturated, lambda some, _: _grey(some, 3).expand_as(some))
    change_some(parameters.blur_sigma > 0, lambda some, chosen: gaussian_blur(some, p.blur_sigma[chosen]))
    change_some(parameters.solarize, lambda some, _: solarize(some))
    return views.permute(0, 3, 1, 2)


def draw_views(images: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
    """One random view of each image: (N, H, W, 3) uint8 to (N, 3, size, size) float32 in 0..1 but for rounding."""
    n, height, width, _ = images.shape
    parameters = draw_view_parameters(n, height, width, recipe, generator)
    return make_views(images, parameters, recipe.size)


def plain_views(images: Tensor, size: int) -> Tensor:
    """The central 7/8 of each image, resized without aliasing: (N, H, W, 3) uint8 to (N, 3, size, size) float32 in 0..1 but for
    rounding.

    The margin is left out because random crops show objects larger than whole images do; 7/8 is the customary 224 of 256
    pixels (Touvron et al. 2019, Fixing the train-test resolution discrepancy, section 3).
    """
    n, height, width, _ = images.shape
    top, left = height // 16, width // 16
    same = torch.zeros(n, dtype=torch.long, device=images.device)
    box = (same + top, same + left, same + height - 2 * top, same + width - 2 * left)
    return _pixels(crop_resize(images, *box, same.bool(), size)).permute(0, 3, 1, 2)


def crop_resize(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, flip: Tensor, size: int
) -> Tensor:
    """Cut boxes from images, resize them without aliasing, and mirror them where `flip`.

    Equals torchvision's `resized_crop(..., antialias=True)` on float images, then `hflip`.

    Args:
        images: (N, H, W, 3) uint8.
        top, left, height, width: (k N,) boxes in pixels; boxes i, N + i, 2 N + i and so on are inside image i.
        flip: (k N,) bool.
        size: height and width of the result.

    Returns:
        (k N, columns, 3, rows) float32 in 0..1 but for rounding, with as many columns and rows as `size`.
    """
    rows, row_weights, columns, column_weights = _crops(top, left, height, width, flip, images.shape[1:3], size)
    return _column_sums(_transposed(_row_sums(images, rows, row_weights)), columns, column_weights)


def _crops(
    top: Tensor, left: Tensor, height: Tensor, width: Tensor, flip: Tensor, full: Sequence[int], size: int
) -> tuple[Tensor, ...]:
    """Numbers of pixel rows and their weights, then of columns and theirs, each (k N, size, taps)."""
    starts, lengths = torch.stack([top, left]), torch.stack([height, width])
    mirrored = torch.stack([torch.zeros_like(flip), flip])
    pixels, weights = _resize_weights(starts, lengths, mirrored, max(full), size)
    return pixels[0], weights[0] / 255, pixels[1], weights[1]


def _row_sums(images: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of pixel rows: (N, H, W, 3) images to (k N, size, 3 W)."""
    n, height, width, _ = images.shape
    views, size, _ = rows.shape
    number = torch.arange(views, dtype=torch.int, device=images.device)[:, None, None]
    sums = _weighted_sums(images.reshape(n * height, width * 3), rows + number % n * height, weights)
    return sums.reshape(views, size, width * 3)


def _column_sums(upright: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of pixel columns: (k N, 3 W, rows) to (k N, size, 3, rows)."""
    views, size, _ = columns.shape
    width, rows = upright.shape[1] // 3, upright.shape[2]
    number = torch.arange(views, dtype=torch.int, device=upright.device)[:, None, None]
    sums = _weighted_sums(upright.reshape(views * width, 3 * rows), columns + number * width, weights)
    return sums.reshape(views, size, 3, rows)


@torch.compiler.disable
def _pixels(views: Tensor) -> Tensor:
    """(N, columns, 3, rows) to (N, rows, columns, 3)."""
    return _transposed(views.flatten(1, 2)).unflatten(2, (-1, 3))


@torch.compiler.disable
def _transposed(matrices: Tensor) -> Tensor:
    """(N, a, b) to (N, b, a), by what shuffles channels: on a CPU three times as fast as a copy with other strides, and many times as fast
    as what is compiled of either; on a GPU not compared."""
    n, rows, columns = matrices.shape
    pixels = matrices.reshape(n, 1, 1, rows * columns).permute(0, 3, 1, 2)
    return channel_shuffle(pixels, rows).permute(0, 2, 3, 1).reshape(n, columns, rows)


def _weighted_sums(lines: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Sums over the last axis of `chosen` and `weights` of the chosen lines times their weights, one after another, in float32.

    A compiler gets them spelt out, since it fuses those with what is around them, but not `embedding_bag`, which is faster by itself.
    """
    taps = chosen.shape[-1]
    chosen, weights = chosen.reshape(-1, taps), weights.reshape(-1, taps)
    if torch.compiler.is_compiling():
        return sum(lines[chosen[:, tap]].float() * weights[:, tap, None] for tap in range(taps))
    return embedding_bag(chosen, lines.float(), per_sample_weights=weights, mode="sum")


def _resize_weights(start: Tensor, length: Tensor, mirrored: Tensor, full: int, size: int) -> tuple[Tensor, Tensor]:
    """Which pixels of a line, and with what weights, make each of `size` pixels of start..start + length.

    Args:
        start, length: in pixels, of any shape.
        mirrored: whether the result runs from the end to the start, of the same shape.
        full: pixels of the longest line, which bound how many one is made of.
        size: pixels of the result.

    Returns:
        (..., size, taps) pixel numbers and weights; a row of weights sums to 1.
    """
    # Taps come first, so that every operation has long rows to run over.
    tap = torch.arange(ceil(2 * max(full / size, 1.0)), device=start.device)
    tap = tap.reshape(-1, *[1] * (start.ndim + 1))
    start, length, mirrored = start[..., None].int(), length[..., None].int(), mirrored[..., None]
    scale = length / size
    support = scale.clamp_min(1.0)
    centre = torch.arange(size, device=start.device) + 0.5
    centre = torch.where(mirrored, size - centre, centre) * scale - 0.5
    pixel = torch.floor(centre - support).add_(1) + tap
    weights = (pixel - centre).abs_().div_(-support).add_(1).clamp_min_(0)
    inside = torch.minimum(pixel.clamp_min(0), length - 1)
    weights.mul_(inside.eq(pixel))
    weights.div_(weights.sum(0))
    return (inside.int() + start).movedim(0, -1), weights.movedim(0, -1)


def adjust_brightness_(views: Tensor, factor: Tensor) -> Tensor:
    """Multiply each of (N, columns, 3, rows) views in 0..1 by its factor (N,), in place, as torchvision's `adjust_brightness`."""
    return views.mul_(factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast_(views: Tensor, factor: Tensor) -> Tensor:
    """Move each of (N, columns, 3, rows) views towards or from its mean grey, in place, as torchvision's `adjust_contrast`."""
    mean = _grey(views, 2).mean((1, 2, 3))
    return views.mul_(factor[:, None, None, None]).add_((mean * (1 - factor))[:, None, None, None]).clamp_(0, 1)


def adjust_saturation_(views: Tensor, factor: Tensor) -> Tensor:
    """Move each of (N, columns, 3, rows) views towards or from its own grey, in place, as torchvision's `adjust_saturation`."""
    return views.lerp_(_grey(views, 2), (1 - factor)[:, None, None, None]).clamp_(0, 1)


def adjust_hue(views: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of each of (N, columns, 3, rows) views by `turn` (N,) in -0.5..0.5, as torchvision's `adjust_hue`.

    The least and the greatest of the three channels stay, and each is read off a trapezoid over the hue circle (Smith 1978, HSV; Foley
    et al., Computer Graphics, section 13.3), of which only the slopes have to be found: clamped to 1..2, the distance in sixths of
    the circle from where a channel is greatest (or, for red, least) is 1 on the one level and 2 on the other. The hue itself is
    found without asking which channel is the greatest: with red as a share r of the way from the least to the greatest, and green
    less blue as a share d, red is 3 - 3 r + (2 r - 1) |d| sixths away, on the side that the sign of d names.
    """
    red, green, blue = views.unbind(2)
    least = torch.minimum(torch.minimum(red, green), blue)
    greatest = torch.maximum(torch.maximum(red, green), blue)
    chroma = greatest - least
    per_chroma = chroma.clamp_min(_TINY).reciprocal_()
    d = (green - blue).mul_(per_chroma)
    r, abs_d = (red - least).mul_(per_chroma), d.abs()
    hue = torch.rsub(abs_d, 0.5, alpha=1 / 6)
    hue.addcmul_(r, torch.rsub(abs_d, 3, alpha=2), value=-1 / 6)
    hue.copysign_(d).add_((turn + 1)[:, None, None]).frac_()
    low, high = least.sub_(chroma), greatest.add_(chroma)
    red = torch.addcmul(low, chroma, (hue - 1 / 2).abs_().clamp_(1 / 6, 1 / 3), value=6)
    green = torch.addcmul(high, chroma, (hue - 1 / 3).abs_().clamp_(1 / 6, 1 / 3), value=-6)
    blue = torch.addcmul(high, chroma, (hue - 2 / 3).abs_().clamp_(1 / 6, 1 / 3), value=-6)
    return torch.stack([red, green, blue], 2)


@_full_precision
def gaussian_blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur each of (N, H, W, 3) views by its `sigma` (N,) in pixels, as torchvision's `gaussian_blur`.

    The kernel spans a tenth of the view, at least 3 pixels and always an odd number (Chen et al. 2020, SimCLR, appendix A);
    edges are reflected.
    """
    height, width = views.shape[1:3]
    rows = _blur_weights(sigma, height, blur_kernel_size(height))
    columns = _blur_weights(sigma, width, blur_kernel_size(width))
    return (rows[:, None] @ views.permute(0, 3, 1, 2) @ columns[:, None].transpose(-1, -2)).permute(0, 2, 3, 1)


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
    """Invert what is at least 0.5 in views in 0..1, as torchvision's `solarize` with that threshold."""
    return torch.where(views >= 0.5, 1 - views, views)


def _grey(views: Tensor, axis: int) -> Tensor:
    """Luma of views with channels at `axis`, which stays with length 1; the weights of torchvision (ITU-R BT.601)."""
    red, green, blue = views.unbind(axis)
    return (_GREY[0] * red).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).unsqueeze(axis)


def _central_crop(height: int, width: int) -> tuple[int, int]:
    """Width and height of the largest central box with an aspect ratio within 3/4..4/3."""
    if width < height * 3 / 4:
        return width, round(width / (3 / 4))
    if width > height * 4 / 3:
        return round(height * (4 / 3)), height
    return width, height
