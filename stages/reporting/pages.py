"""HTML pages that open from disk: templates filled in, with scripts, styles and images embedded."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from plotly.offline import get_plotlyjs


def render(template: str, *, plotly: bool = False, **values: object) -> str:
    """Fill in a template; values are escaped.

    Args:
        template: Name of a file in `templates/` beside this module.
        plotly: Whether to embed Plotly's script.
        values: Values of the names in the template.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = get_plotlyjs() if plotly else ""
    return environment.get_template(template).render(script=script, **values)


def jpeg_url(image: Image.Image) -> str:
    """Return an image as the data URL of a JPEG."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"
