"""Pages that open from disk: templates filled in, scripts and styles inside."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
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
