"""Augmented views of images, made in batches on the device where the images are.

Every view has parameters of its own. They are drawn first (`draw_view_parameters`) and applied second (`make_views`),
so that each operation can be verified against its counterpart in torchvision with the same parameters. Two views of
each of N images are asked for by 2 N parameters: views i, N + i, 2 N + i and so on are made from image i.

Random resized crop and flip are weighted sums of pixel rows, then of pixel columns, with only the few nonzero weights
of the antialiasing triangle filter. Each sum runs over lines that are contiguous in memory, which fixes the layouts:

    images              (N, H, W, 3)   uint8, as they are on disk
    sums of rows        (V, H, 3 W)    float32, transposed before columns are summed
    views in the making (V, W, 3, H)   float32; operations on colours run over whole columns of one channel
    finished views      (V, 3, H, W)   float32 in channels_last memory, as convolutions take them
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import ceil, log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import channel_shuffle, embedding_bag, one_hot

from stages.pipeline.params import StrongView, WeakView

# Luma of ITU-R BT.601, as torchvision rounds it.
_RED, _GREEN, _BLUE = 0.2989, 0.587, 0.114
# In place of the chroma of grey, which is 0 and divided by.
_TINY = 1e-12


@dataclass(frozen=True)
class ViewRecipe:
    """Ranges and probabilities from which the parameters of views are drawn.

    Attributes:
        size: Height and width of a view in pixels.
        crop_min: Smallest share of the image's area that a crop may cover, in (0, 1]. The aspect ratio is within
            3/4..4/3.
        flip: Whether half of the views are mirrored left to right.
        brightness: Half-width of the range of brightness factors, 1 - value..1 + value, cut off at 0.
        contrast: Half-width of the range of contrast factors, likewise.
        saturation: Half-width of the range of saturation factors, likewise.
        hue: Half-width of the range of hue shifts in turns of the colour circle, in 0..0.5.
        jitter_probability: Probability that brightness, contrast, saturation and hue of a view are changed.
        greyscale_probability: Probability that a view is turned grey.
        blur_probability: Probability that a view is blurred; or two, of the first and the second of two views.
        solarize_probability: Probability that a view is solarized, likewise.
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
    blur_probability: float | Sequence[float] = 0.0
    solarize_probability: float | Sequence[float] = 0.0


def view_recipe(size: int, section: WeakView | StrongView) -> ViewRecipe:
    """Return the recipe that a section of the parameters describes, for views of `size` pixels."""
    return ViewRecipe(size, **section.model_dump())


@dataclass(frozen=True)
class ViewParameters:
    """What is done to each of V views; every field is a tensor of shape (V,).

    Attributes:
        top: First pixel row of the crop.
        left: First pixel column of the crop.
        height: Height of the crop in pixels of the image.
        width: Width of the crop in pixels of the image.
        flip: Whether the view is mirrored left to right.
        brightness: Factor, 1 for no change.
        contrast: Factor, 1 for no change.
        saturation: Factor, 1 for no change.
        hue: Shift in turns of the colour circle, 0 for no change.
        greyscale: Whether the view is turned grey.
        blur_sigma: Standard deviation of the blur in pixels of the view, 0 for none.
        solarize: Whether the view is solarized.
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
        """Return a copy on `device`, which the CPU does not wait for."""
        return ViewParameters(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def __getitem__(self, chosen: Tensor) -> "ViewParameters":
        """Return the parameters of the chosen views, given as indices or as a mask."""
        return ViewParameters(*(getattr(self, field.name)[chosen] for field in fields(self)))


class Crops(NamedTuple):
    """Pixel rows and columns that V crops are weighted sums of; see `crop_resize`.

    Attributes:
        rows: (V, size, taps) numbers of pixel rows.
        row_weights: (V, size, taps) weights of these rows, which also scale bytes to 0..1.
        columns: (V, size, taps) numbers of pixel columns.
        column_weights: (V, size, taps) weights of these columns.
    """

    rows: Tensor
    row_weights: Tensor
    columns: Tensor
    column_weights: Tensor


def draw_view_parameters(
    n: int, height: int, width: int, recipe: ViewRecipe, generator: torch.Generator, second_views: int = 0
) -> ViewParameters:
    """Draw the parameters of `n` views of images of `height` x `width` pixels.

    The last `second_views` of them are the second of two views of an image: where the recipe has two probabilities,
    theirs is the second one. Barlow Twins blurs and solarizes so, with the numbers of BYOL (Grill et al. 2020,
    appendix B).

    Crops follow torchvision's RandomResizedCrop: the area is uniform in crop_min..1, the aspect ratio log-uniform in
    3/4..4/3, and the first of ten tries that fits into the image is taken, or else a central crop. Colour jitter
    follows torchvision's ColorJitter in the fixed order brightness, contrast, saturation, hue. The standard deviation
    of the blur is uniform in 0.1..2.0, as in BYOL (Grill et al. 2020, appendix B).
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape or (n,), generator=generator) * (high - low) + low

    # Size of the crop: the first try that fits.
    area = height * width * uniform(recipe.crop_min, 1.0, n, 10)
    aspect = torch.exp(uniform(log(3 / 4), log(4 / 3), n, 10))
    tries_w = torch.round(torch.sqrt(area * aspect)).long()
    tries_h = torch.round(torch.sqrt(area / aspect)).long()
    fits = (tries_w > 0) & (tries_w <= width) & (tries_h > 0) & (tries_h <= height)
    first = fits.long().argmax(1, keepdim=True)
    found = fits.any(1)
    fallback_w, fallback_h = _central_crop(height, width)
    crop_w = torch.where(found, tries_w.gather(1, first).squeeze(1), fallback_w)
    crop_h = torch.where(found, tries_h.gather(1, first).squeeze(1), fallback_h)

    # Place of the crop: anywhere inside the image.
    top = (uniform(0, 1) * (height - crop_h + 1)).long()
    left = (uniform(0, 1) * (width - crop_w + 1)).long()
    top = torch.where(found, top, (height - crop_h) // 2)
    left = torch.where(found, left, (width - crop_w) // 2)

    jitter = uniform(0, 1) < recipe.jitter_probability
    blur = _of_each_view(recipe.blur_probability, n, second_views)
    solarized = _of_each_view(recipe.solarize_probability, n, second_views)

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
        blur_sigma=torch.where(uniform(0, 1) < blur, uniform(0.1, 2.0), 0.0),
        solarize=uniform(0, 1) < solarized,
    )


def _of_each_view(probability: float | Sequence[float], n: int, second_views: int) -> float | Tensor:
    """Return the probability of each of `n` views, or one number if it is the same for all."""
    if isinstance(probability, Sequence):
        first, second = probability
        return torch.tensor([first] * (n - second_views) + [second] * second_views)
    return probability


def _central_crop(height: int, width: int) -> tuple[int, int]:
    """Return width and height of the largest central box with an aspect ratio within 3/4..4/3."""
    if width < height * 3 / 4:
        return width, round(width / (3 / 4))
    if width > height * 4 / 3:
        return round(height * (4 / 3)), height
    return width, height


def crop_and_colour(
    images: Tensor,
    crops: Crops,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor | None = None,
) -> Tensor:
    """Apply what every view needs: crop and flip, then brightness, contrast, saturation and hue in this order.

    Args:
        images: (N, H, W, 3) uint8 images.
        crops: Pixel rows and columns of k N views and their weights; views i, N + i, 2 N + i and so on are of image i.
        brightness: (k N,) factors.
        contrast: (k N,) factors.
        saturation: (k N,) factors.
        hue: (k N,) shifts in turns of the colour circle, or None if no hue is shifted.

    Returns:
        (k N, W, 3, H) float32 views in 0..1 up to rounding.
    """
    # Written out rather than shared with `crop_resize`: a compiler breaks its graph at the transposition, and where
    # that happens inside a called function, nothing around the call is fused.
    columns = _transposed(_row_sums(images, crops))
    views = _column_sums(columns, crops)
    views = adjust_brightness_(views, brightness)
    views = adjust_contrast_(views, contrast)
    views = adjust_saturation_(views, saturation)
    return views if hue is None else adjust_hue(views, hue)


def make_views(
    images: Tensor, parameters: ViewParameters, size: int, transform: Callable[..., Tensor] = crop_and_colour
) -> Tensor:
    """Make k views of each image, as `parameters` say.

    The order is fixed: crop and flip, brightness, contrast, saturation, hue, greyscale, blur, solarize.

    Args:
        images: (N, H, W, 3) uint8 images.
        parameters: Parameters of k N views; views i, N + i, 2 N + i and so on are of image i. They are on the CPU, so
            that nothing waits for a GPU to know which views an operation applies to.
        size: Height and width of the views in pixels.
        transform: `crop_and_colour`, or a compiled version of it.

    Returns:
        (k N, 3, size, size) float32 views in 0..1 up to rounding, in channels_last memory.
    """
    p = parameters.to(images.device)
    crops = _crops(p.top, p.left, p.height, p.width, p.flip, max(images.shape[1:3]), size)

    # Saturation 0 makes a view grey at no cost, unless its hue is shifted afterwards or its own saturation would have
    # been clamped.
    desaturated = parameters.greyscale & (parameters.hue == 0) & (parameters.saturation <= 1)
    saturation = torch.where(desaturated.to(images.device, non_blocking=True), 0.0, p.saturation)
    hue = p.hue if parameters.hue.any() else None
    views = transform(images, crops, p.brightness, p.contrast, saturation, hue)

    # What only some views need is done to them alone.
    def change_some(which: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
        chosen = torch.nonzero(which).squeeze(1).to(images.device, non_blocking=True)
        if len(chosen):
            views.index_copy_(0, chosen, operation(views.index_select(0, chosen), chosen))

    change_some(parameters.greyscale & ~desaturated, lambda some, _: _grey(some).expand_as(some))
    change_some(parameters.blur_sigma > 0, lambda some, chosen: gaussian_blur(some, p.blur_sigma[chosen]))
    change_some(parameters.solarize, lambda some, _: solarize(some))
    return _channels_last(views)


def draw_views(images: Tensor, recipe: ViewRecipe, generator: torch.Generator, second_views: int = 0) -> Tensor:
    """Draw one random view of each image.

    Args:
        images: (N, H, W, 3) uint8 images.
        recipe: Ranges and probabilities from which the parameters are drawn.
        generator: Random generator, on the CPU.
        second_views: How many of the last views are the second of two; see `draw_view_parameters`.

    Returns:
        (N, 3, size, size) float32 views in 0..1 up to rounding, in channels_last memory.
    """
    n, height, width, _ = images.shape
    parameters = draw_view_parameters(n, height, width, recipe, generator, second_views)
    return make_views(images, parameters, recipe.size)


def center_crop_views(images: Tensor, size: int) -> Tensor:
    """Crop the central 7/8 of each image and resize it without aliasing.

    The margin is left out because random crops show objects larger than whole images do. 7/8 is the customary 224 of
    256 pixels (Touvron et al. 2019, Fixing the train-test resolution discrepancy, section 3).

    Args:
        images: (N, H, W, 3) uint8 images.
        size: Height and width of the result in pixels.

    Returns:
        (N, 3, size, size) float32 views in 0..1 up to rounding, in channels_last memory.
    """
    n, height, width, _ = images.shape
    top, left = height // 16, width // 16
    zeros = torch.zeros(n, dtype=torch.long, device=images.device)
    box = (zeros + top, zeros + left, zeros + height - 2 * top, zeros + width - 2 * left)
    return _channels_last(crop_resize(images, *box, zeros.bool(), size))


def crop_resize(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, flip: Tensor, size: int
) -> Tensor:
    """Crop boxes from images, resize them without aliasing, and mirror some of them.

    The result equals that of torchvision's `resized_crop(..., antialias=True)` on float images, followed by `hflip`.

    Args:
        images: (N, H, W, 3) uint8 images.
        top: (k N,) first pixel rows of the boxes; boxes i, N + i, 2 N + i and so on are inside image i.
        left: (k N,) first pixel columns of the boxes.
        height: (k N,) heights of the boxes in pixels.
        width: (k N,) widths of the boxes in pixels.
        flip: (k N,) booleans, true where the result is mirrored left to right.
        size: Height and width of the result in pixels.

    Returns:
        (k N, W, 3, H) float32 in 0..1 up to rounding, with W = H = `size`.
    """
    crops = _crops(top, left, height, width, flip, max(images.shape[1:3]), size)
    return _column_sums(_transposed(_row_sums(images, crops)), crops)


def _crops(top: Tensor, left: Tensor, height: Tensor, width: Tensor, flip: Tensor, full: int, size: int) -> Crops:
    """Return the rows and columns that crops of `size` pixels are made of; `full` is the longer side of the images."""
    starts, lengths = torch.stack([top, left]), torch.stack([height, width])
    mirrored = torch.stack([torch.zeros_like(flip), flip])
    pixels, weights = _resize_weights(starts, lengths, mirrored, full, size)
    return Crops(pixels[0], weights[0] / 255, pixels[1], weights[1])


def _resize_weights(start: Tensor, length: Tensor, mirrored: Tensor, full: int, size: int) -> tuple[Tensor, Tensor]:
    """Return which pixels of a line, and with what weights, make each of `size` pixels of start..start + length.

    Args:
        start: First pixel of the part of the line, of any shape.
        length: Pixels of the part of the line, of the same shape.
        mirrored: Booleans of the same shape, true where the result runs from the end to the start.
        full: Pixels of the longest line, which bound how many of them one pixel of the result is made of.
        size: Pixels of the result.

    Returns:
        (..., size, taps) numbers of pixels and their weights, which sum to 1 over the taps.
    """
    # Taps come first, so that every operation has long rows to run over.
    tap = torch.arange(ceil(2 * max(full / size, 1.0)), device=start.device)
    tap = tap.reshape(-1, *[1] * (start.ndim + 1))
    start, length, mirrored = start[..., None].int(), length[..., None].int(), mirrored[..., None]
    scale = length / size
    support = scale.clamp_min(1.0)
    centre = torch.arange(size, device=start.device) + 0.5
    centre = torch.where(mirrored, size - centre, centre) * scale - 0.5

    # A triangle around the centre; what would lie outside of the part has no weight.
    pixel = torch.floor(centre - support).add_(1) + tap
    weights = (pixel - centre).abs_().div_(-support).add_(1).clamp_min_(0)
    inside = torch.minimum(pixel.clamp_min(0), length - 1)
    weights.mul_(inside.eq(pixel))
    weights.div_(weights.sum(0))
    return (inside.int() + start).movedim(0, -1), weights.movedim(0, -1)


def _row_sums(images: Tensor, crops: Crops) -> Tensor:
    """Return weighted sums of pixel rows: (N, H, W, 3) images to (V, size, 3 W)."""
    return _weighted_lines(images.flatten(2), crops.rows, crops.row_weights)


def _column_sums(columns: Tensor, crops: Crops) -> Tensor:
    """Return weighted sums of pixel columns: (V, 3 W, size) to (V, size, 3, size)."""
    views, size, _ = crops.columns.shape
    sums = _weighted_lines(columns.reshape(views, -1, 3 * size), crops.columns, crops.column_weights)
    return sums.reshape(views, size, 3, size)


def _weighted_lines(lines: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Sum chosen lines of images, times their weights, one tap after another in float32.

    Args:
        lines: (N, L, D) lines of N images, which may be bytes.
        chosen: (k N, size, taps) int32 numbers of lines; those at i, N + i, 2 N + i and so on are of image i.
        weights: (k N, size, taps) weights.

    Returns:
        (k N, size, D) float32 sums.
    """
    (n, per_image, length), (views, size, taps) = lines.shape, chosen.shape
    image = torch.arange(n, dtype=torch.int, device=lines.device).repeat(views // n)
    chosen = (chosen + image[:, None, None] * per_image).reshape(-1, taps)
    weights, lines = weights.reshape(-1, taps), lines.flatten(0, 1)

    # A compiler fuses a sum that is written out with what is around it. Not compiled, that sum takes views of 32 pixels
    # four times as long as `embedding_bag` (one thread, measured like `_transposed`).
    if torch.compiler.is_compiling():
        sums = lines[chosen[:, 0]].float() * weights[:, :1]
        for tap in range(1, taps):
            sums = sums + lines[chosen[:, tap]].float() * weights[:, tap, None]
    else:
        sums = embedding_bag(chosen, lines.float(), per_sample_weights=weights, mode="sum")
    return sums.reshape(views, size, length)


# A decorator with a type, which torch's own lacks.
_not_compiled: Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]] = torch.compiler.disable


@_not_compiled
def _transposed(matrices: Tensor) -> Tensor:
    """Return (N, a, b) matrices as contiguous (N, b, a)."""
    n, rows, columns = matrices.shape

    # `transpose(1, 2).contiguous()` gives the same bytes, but two views of each of 64 96-pixel images take longer by
    #     32 pixels: 11 % (8..14) with one thread, 11 % (7..13) with two
    #     64 pixels: 14 % (7..19) with one thread, 8 % (5..12) with two
    # Compiled views take longer by 77 % (74..78) and 49 % (46..51) with one thread if this is compiled too.
    # Medians and 95 % intervals of 60 and 40 interleaved rounds, AMD EPYC (family 25, AVX2), 2026-11-27.
    pixels = matrices.reshape(n, 1, 1, rows * columns).permute(0, 3, 1, 2)
    return channel_shuffle(pixels, rows).permute(0, 2, 3, 1).reshape(n, columns, rows)


def _channels_last(views: Tensor) -> Tensor:
    """Return (V, W, 3, H) views as (V, 3, H, W) in channels_last memory."""
    views_count, width, _, height = views.shape
    return _transposed(views.flatten(1, 2)).reshape(views_count, height, width, 3).permute(0, 3, 1, 2)


def adjust_brightness_(views: Tensor, factor: Tensor) -> Tensor:
    """Multiply (V, W, 3, H) views by (V,) factors in place, as torchvision's `adjust_brightness`."""
    return views.mul_(factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast_(views: Tensor, factor: Tensor) -> Tensor:
    """Blend (V, W, 3, H) views with their mean grey by (V,) factors in place, as torchvision's `adjust_contrast`."""
    mean = _grey(views).mean((1, 2, 3))
    return views.mul_(factor[:, None, None, None]).add_((mean * (1 - factor))[:, None, None, None]).clamp_(0, 1)


def adjust_saturation_(views: Tensor, factor: Tensor) -> Tensor:
    """Blend (V, W, 3, H) views with their greyscale by (V,) factors in place, as torchvision's `adjust_saturation`."""
    return views.lerp_(_grey(views), (1 - factor)[:, None, None, None]).clamp_(0, 1)


def adjust_hue(views: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue of (V, W, 3, H) views by (V,) turns of the colour circle, as torchvision's `adjust_hue`.

    The least and the greatest of the three channels keep their values, and each channel is read off a trapezoid over
    the hue circle (Smith 1978, HSV; Foley et al., Computer Graphics, section 13.3). Only its slopes have to be
    computed: the distance in sixths of the circle from where a channel is greatest (for red, least), clamped to 1..2,
    is 1 on one level and 2 on the other.

    The hue itself is found without asking which channel is the greatest. Let r be how far red is from the least to
    the greatest channel, as a share, and d the difference of green and blue as a share of the same distance: the hue
    lies 3 - 3 r + (2 r - 1) |d| sixths from red, on the side given by the sign of d.
    """
    red, green, blue = views.unbind(2)
    least = torch.minimum(torch.minimum(red, green), blue)
    greatest = torch.maximum(torch.maximum(red, green), blue)
    chroma = greatest - least

    # Hue in turns, shifted.
    per_chroma = chroma.clamp_min(_TINY).reciprocal_()
    d = (green - blue).mul_(per_chroma)
    r, abs_d = (red - least).mul_(per_chroma), d.abs()
    hue = torch.rsub(abs_d, 0.5, alpha=1 / 6)
    hue.addcmul_(r, torch.rsub(abs_d, 3, alpha=2), value=-1 / 6)
    hue.copysign_(d).add_((shift + 1)[:, None, None]).frac_()

    # Each channel off its trapezoid.
    low, high = least.sub_(chroma), greatest.add_(chroma)
    red = torch.addcmul(low, chroma, (hue - 1 / 2).abs_().clamp_(1 / 6, 1 / 3), value=6)
    green = torch.addcmul(high, chroma, (hue - 1 / 3).abs_().clamp_(1 / 6, 1 / 3), value=-6)
    blue = torch.addcmul(high, chroma, (hue - 2 / 3).abs_().clamp_(1 / 6, 1 / 3), value=-6)
    return torch.stack([red, green, blue], 2)


def gaussian_blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur (V, W, 3, H) views, each with its own standard deviation, as torchvision's `gaussian_blur`.

    The kernel spans a tenth of the view, at least 3 pixels and always an odd number (Chen et al. 2020, SimCLR,
    appendix A); edges are reflected.

    Args:
        views: (V, W, 3, H) float32 views.
        sigma: (V,) standard deviations in pixels of the view, above 0.
    """
    width, height = views.shape[1], views.shape[3]
    # In float32 even where the model around it runs in lower precision.
    with torch.autocast(views.device.type, enabled=False):
        rows = _blur_weights(sigma, height, blur_kernel_size(height))
        columns = _blur_weights(sigma, width, blur_kernel_size(width))
        planes = views.permute(0, 2, 3, 1).contiguous()
        blurred = rows[:, None] @ planes @ columns[:, None].transpose(-1, -2)
    return blurred.permute(0, 3, 1, 2)


def blur_kernel_size(pixels: int) -> int:
    """Return how many pixels the blur kernel spans in a view of `pixels`: about a tenth, odd, at least 3."""
    return max(3, 2 * ceil((pixels // 10 - 1) / 2) + 1)


def _blur_weights(sigma: Tensor, pixels: int, kernel: int) -> Tensor:
    """Return (V, pixels, pixels) banded matrices: a Gaussian kernel with the reflected edges folded in."""
    reach = kernel // 2
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    gauss = torch.exp(-0.5 * (offset[None, :] / sigma[:, None]) ** 2)
    gauss = gauss / gauss.sum(1, keepdim=True)
    source = torch.arange(pixels, device=sigma.device)[:, None] + offset[None, :]
    source = source.abs()
    source = torch.where(source >= pixels, 2 * (pixels - 1) - source, source)
    picks = one_hot(source, pixels).to(gauss.dtype)
    return torch.einsum("nk,pkq->npq", gauss, picks)


def solarize(views: Tensor) -> Tensor:
    """Invert what is at least 0.5 in views in 0..1, as torchvision's `solarize` with that threshold."""
    return torch.where(views >= 0.5, 1 - views, views)


def _grey(views: Tensor) -> Tensor:
    """Return the luma of (V, W, 3, H) views as (V, W, 1, H)."""
    red, green, blue = views.unbind(2)
    return (_RED * red).add_(green, alpha=_GREEN).add_(blue, alpha=_BLUE).unsqueeze(2)
