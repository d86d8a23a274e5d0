"""Prepared data as a page: one HTML file that fetches nothing, for people who would rather look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from setup.common.errors import FixableError
from setup.common.files import fixable_write, replace_together
from setup.finetune.inspect import sentences
from setup.finetune.inspect.sentences import Chart
from setup.finetune.inspect.survey import Survey
from setup.finetune.inspect.tokens import Rendering, Tokens

_TEMPLATES = Path(__file__).resolve().parent
_SUFFIXES = (".html", ".htm")
_WIDTH, _TALL, _LABEL, _AXIS = 640, 160, 22, 20


def refuse_path(path: Path) -> None:
    """See that nothing is written over that is no page: a folder, or chats.

    Raises:
        FixableError: ``path`` is a folder, or its name is not that of a page.
    """
    if path.is_dir():
        raise FixableError(f"--html {path} is a folder", f"--html {path / 'data.html'}")
    if path.suffix.lower() not in _SUFFIXES:
        what = f"--html {path} has not the name of a page"
        raise FixableError(what, f"--html {path.with_suffix('.html')}")


def write_page(path: Path, made: Survey, tokens: Tokens, renderings: Sequence[Rendering]) -> None:
    """Write the page; a page that stood at ``path`` is replaced.

    Raises:
        FixableError: It cannot be written there.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"heading": sentences.heading, "histogram": _histogram}
    text = environment.get_template("page.jinja2").render(
        source=made.source,
        parts=[*sentences.survey_parts(made), sentences.token_part(tokens)],
        charts=sentences.charts(tokens),
        renderings=renderings,
    )
    with fixable_write(path.parent, "--html FILE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_together(path) as (file,):
            file.write(text.encode("utf-8", "replace"))


def _histogram(chart: Chart) -> Markup:
    """The bars, each with the number of its rows above it and its values below."""
    bars, step = [], _WIDTH / len(chart.bins)
    most = max(bin_.rows for bin_ in chart.bins)
    base = _LABEL + _TALL
    for place, bin_ in enumerate(chart.bins):
        height = max(_TALL * bin_.rows / most, 1.5 if bin_.rows else 0)
        middle = step * (place + 0.5)
        title = f"{sentences.bin_label(bin_)}: {bin_.rows:,}"
        bars.append(
            Markup(
                '<g><title>{}</title><rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" '
                'height="{:.1f}"/><text x="{:.1f}" y="{:.1f}">{}</text>'
                '<text x="{:.1f}" y="{}">{}</text></g>'
            ).format(
                title,
                step * place + 2,
                base - height,
                step - 4,
                height,
                middle,
                base - height - 6,
                f"{bin_.rows:,}" if bin_.rows else "",
                middle,
                base + _AXIS - 4,
                f"{bin_.low:,}{'+' if bin_.high is None else ''}",
            )
        )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, base + _AXIS, f"Histogram: {chart.title}", Markup("").join(bars)
    )
