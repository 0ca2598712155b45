"""What pages have in common: one file of HTML that needs no network and no scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["MATRIX_KEY", "SHARE_TICKS", "capital", "class_cell", "document", "notes", "table"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself keeps the page from reaching out."""

MATRIX_KEY = (
    '<p class="small">Rows: the class on the map. Columns, by number: the reference. Blue is '
    "right, orange is wrong; the stronger, the larger its part of the row.</p>"
)
"""How to read the picture of an error matrix."""

SHARE_TICKS = ((0.0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1.0, "100 %"))
"""Of an axis of shares."""

STYLE = """
:root{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:#212529;background:#fff}
body{margin:0}main{max-width:1180px;margin:0 auto;padding:20px 14px 40px}
h1{font-size:1.5rem;line-height:1.25;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:1.8em 0 .3em}h3{font-size:.95rem;margin:.4em 0}
p{max-width:74ch;margin:.4em 0;overflow-wrap:anywhere}.small{color:#495057;font-size:.87rem}
.big{font-size:2.4rem;font-weight:650;line-height:1.1;margin:.4em 0 0}
.big small{font-size:1.05rem;font-weight:400;color:#495057}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:8px 28px}
.grid>*{min-width:0}.wide{overflow-x:auto}
svg{width:100%;height:auto;display:block;font-size:12px}svg text{fill:#212529}
.tick,.number{fill:#495057;font-size:11px}.cell{font-size:11px}.strong{font-size:11px}
svg .strong{fill:#fff}path.grid{stroke:#dee2e6;fill:none}
.bar{stroke:#1864ab;stroke-width:1.6;fill:none}
.dot{fill:#1864ab}.mapped{fill:#fff;stroke:#868e96;stroke-width:1.4}
.agrees{fill:#fff;stroke:#1864ab;stroke-width:1.2}.differs{stroke:#c92a2a;stroke-width:2;fill:none}
.note{border-left:4px solid #f08c00;background:#fff9db;padding:6px 12px;margin:.5em 0;
max-width:74ch}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{text-align:right;padding:4px 8px;border-bottom:1px solid #e9ecef}
th:first-child,td:first-child{text-align:left}thead th{color:#495057;font-weight:600}
td small{color:#495057;white-space:nowrap}.key{display:inline-block;width:.7em;height:.7em;
border:1px solid #868e96;border-radius:2px;margin-right:.5em}
code{font-size:.85em;overflow-wrap:anywhere}
.key-line span{margin-right:1.2em;white-space:nowrap}.key-line .key{margin-right:.5em}
.tiles{display:flex;flex-wrap:wrap;gap:6px 36px;margin:.8em 0;font-size:1.3rem}
.tiles h3{margin:0;font-weight:400;color:#495057;font-size:.87rem}.below{margin-top:18px}
.chips{display:grid;gap:18px 28px;
grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr))}
figure{margin:0;min-width:0}figcaption{font-size:.87rem;overflow-wrap:anywhere}
.trio{display:grid;grid-template-columns:repeat(3,1fr);gap:4px}.trio img{width:100%;display:block}
@media(max-width:700px){thead{display:none}tr{display:block;border-bottom:1px solid #adb5bd;
padding:4px 0}td{display:flex;justify-content:space-between;border:0;padding:2px 0}
td:first-child{font-weight:650;justify-content:flex-start;align-items:center}
td:not(:first-child)::before{content:attr(data-what);color:#495057;text-align:left}}
"""


def document(title: str, sections: Iterable[str]) -> str:
    """A page of sections of HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def notes(told: Iterable[str]) -> str:
    """What a reader has to know, set off."""
    return "".join(f'<div class="note">{escape(note)}</div>' for note in told)


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table that folds into blocks on a telephone.

    Args:
        heads: of the columns, plain text.
        lines: cells of HTML.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(_line(heads, cells) for cells in lines)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{whole}</div>'


def class_cell(name: str, colour: str) -> str:
    """A class in a table: its colour and its name."""
    return f'<span class="key" style="background:{escape(colour)}"></span>{escape(name)}'


def capital(text: str) -> str:
    """The same with a capital at its start."""
    return text[:1].upper() + text[1:]


def _line(heads: Sequence[str], cells: Sequence[str]) -> str:
    told = "".join(
        f'<td data-what="{escape(head)}"><span>{cell}</span></td>'
        for head, cell in zip(heads, cells, strict=True)
    )
    return f"<tr>{told}</tr>"
