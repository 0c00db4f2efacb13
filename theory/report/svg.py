"""Elements of inline SVG in the colours of the page: what plots and heat maps are built of."""

from typing import Any

from markupsafe import Markup, escape

WIDTH = 360.0
"""Width of a plot in its own units: about that of a phone, so that text is readable where the plot is shrunk to fit."""
CHARACTERS = 52
"""How many characters of a plot's text fit into its width."""


def element(tag: str, *content: Any, **attributes: Any) -> Markup:
    """An SVG element.

    Args:
        tag: its name.
        content: text, which is escaped, and elements.
        attributes: by name, without those that are None; "_" stands for "-", and ``class_`` for "class".

    Example:
        >>> print(element("line", x1=0, y1=0.25, class_="mark", stroke_width=None))
        <line x1="0" y1="0.25" class="mark"/>
        >>> print(element("text", "a < b", x=1.0))
        <text x="1">a &lt; b</text>
    """
    named = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None)
    opening = "".join([f"<{tag}", *(f' {name}="{escape(_short(value))}"' for name, value in named)])
    if not content:
        return Markup(f"{opening}/>")
    return Markup(f"{opening}>{''.join(map(escape, content))}</{tag}>")


def drawing(height: float, *content: Any, label: str, class_: str, width: float = WIDTH, scales: bool = True) -> Markup:
    """An SVG image.

    Args:
        height: in the units of ``WIDTH``.
        content: its elements.
        label: what somebody hears who cannot see it.
        class_: for the style sheet.
        width: in the same units.
        scales: whether it takes the width that the page gives it; else a unit is a pixel.
    """
    size = {} if scales else {"width": width, "height": height}
    box = f"0 0 {_short(width)} {_short(height)}"
    return element("svg", *content, class_=class_, viewBox=box, **size, role="img", aria_label=label)


def text(x: float, y: float, words: str, class_: str, *, anchor: str | None = None) -> Markup:
    """A line of text.

    Args:
        x: where it starts, or where its anchor is.
        y: its base line.
        words: the text.
        class_: for the style sheet.
        anchor: "middle" or "end" where ``x`` is not its start.
    """
    return element("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def tip(words: str) -> Markup:
    """What is shown when a pointer rests on the element that contains this."""
    return element("title", words)


def shortened(label: str) -> str:
    """A label, cut where it does not fit into a line.

    >>> shortened("gaussian"), shortened("a" * 60)[-3:]
    ('gaussian', 'aa…')
    """
    return label if len(label) <= CHARACTERS else label[: CHARACTERS - 1] + "…"


def _short(value: Any) -> Any:
    """A number with two decimals at most; what is no number as it is."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
