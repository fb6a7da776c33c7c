"""Pages that open from disk: templates filled in, scripts and styles inside."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from plotly.offline import get_plotlyjs


def render(template: str, *, plotly: bool = False, **values: object) -> str:
    """Fill in a template; whatever is put in is escaped.

    Args:
        template: file in `templates/` beside this module.
        plotly: whether the page draws with Plotly, whose script then goes inside.
        values: what the template names.
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


def jpeg_url(picture: Image.Image) -> str:
    """A picture as the data URL of a JPEG."""
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"
