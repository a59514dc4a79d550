"""A sheet as one HTML file that needs nothing else: the pictures are in it, each with its recipe, and open in full size."""

import base64
import html
import io
import json
from collections.abc import Mapping
from typing import Any

from sfumato.images import embedding
from sfumato.sheets.differences import differences
from sfumato.sheets.page import Cell, Page, Sheet

DEFINITION = "sfumato-grid"
"""The id of the script element that holds what the sheet was made from."""

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1e; --grey: #707076; --line: #dedee2; --wash: #fbf0ef; --red: #b02a24 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161618; --ink: #ececf0; --grey: #9a9aa2; --line: #34343a; --wash: #2c1c1b; --red: #f28b82 }
}
body { margin: 2rem; background: var(--paper); color: var(--ink); font: 15px/1.4 system-ui, sans-serif }
h1 { font-size: 1.3rem; margin: 0 0 .3rem; max-width: 60rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem }
p { margin: 0 0 1.2rem; color: var(--grey); max-width: 60rem; overflow-wrap: anywhere }
table { border-spacing: .7rem; margin: 0 -.7rem }
th { font-weight: 600; overflow-wrap: anywhere; max-width: 18rem; background: var(--paper) }
thead th { position: sticky; top: 0; z-index: 1; padding: .3rem }
tbody th { position: sticky; left: 0; text-align: left; padding-right: .5rem }
th.name { font-weight: 400; color: var(--grey) }
td { vertical-align: top; min-width: 12rem }
td img { display: block; width: 100%; min-width: 12rem; max-width: 32rem; image-rendering: auto }
img.small { image-rendering: pixelated }
td button { display: block; width: 100%; padding: 0; border: 0; background: none; cursor: zoom-in }
td ul { list-style: none; margin: .3rem 0 0; padding: 0; color: var(--grey); font-size: .8rem; max-width: 32rem; overflow-wrap: anywhere }
td.failed { background: var(--wash); color: var(--ink); padding: .8rem; border: 1px solid var(--red) }
td.failed strong { color: var(--red); display: block }
dialog { border: 0; padding: 1rem; background: var(--paper); color: var(--ink); max-width: 96vw; max-height: 96vh }
dialog::backdrop { background: #000b }
dialog img { display: block; margin: auto }
dialog pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; color: var(--grey); max-width: 60rem }
"""

_SCRIPT = """
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll("td button")) button.onclick = () => {
  const image = button.firstElementChild, shown = dialog.querySelector("img");
  shown.src = image.src; shown.alt = image.alt;
  dialog.querySelector("pre").textContent = JSON.stringify(JSON.parse(button.dataset.recipe), null, 1);
  dialog.showModal();
};
dialog.onclick = () => dialog.close();
"""


def web_page(sheet: Sheet, definition: Mapping[str, Any]) -> str:
    """The sheet as HTML; `definition` is what it was made from, as JSON."""
    recipes = [recipe for page in sheet.pages for recipe in page.recipes]
    base = recipes[0] if recipes else None
    # No "<" in the JSON, so that nothing in it ends the element.
    held = json.dumps(definition).replace("<", "\\u003c")
    pages = "\n".join(_page(sheet, page, base) for page in sheet.pages)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="generator" content="Sfumato">
<title>{html.escape(sheet.title)}</title>
<style>{_STYLE}</style>
<h1>{html.escape(sheet.title)}</h1>
<p>{html.escape(sheet.caption)}</p>
{pages}
<dialog><img alt=""><pre></pre></dialog>
<script type="application/json" id="{DEFINITION}">{held}</script>
<script>{_SCRIPT}</script>
</html>
"""


def _page(sheet: Sheet, page: Page, base: Any) -> str:
    rows: list[str] = []
    if sheet.x:
        corner = f'<th class="name" rowspan="2">{html.escape(sheet.y)}</th>' if sheet.y else ""
        labels = "".join(f"<th>{html.escape(label)}</th>" for label in page.columns)
        across = f'<th class="name" colspan="{len(page.columns)}">{html.escape(sheet.x)}</th>'
        rows.append(f"<thead><tr>{corner}{across}</tr><tr>{labels}</tr></thead>")
    elif sheet.y:
        rows.append(f'<thead><tr><th class="name">{html.escape(sheet.y)}</th></tr></thead>')
    rows.append("<tbody>")
    for label, cells in zip(page.rows, page.cells, strict=True):
        named = f"<th>{html.escape(label)}</th>" if sheet.y else ""
        rows.append(f"<tr>{named}{''.join(_cell(cell, base) for cell in cells)}</tr>")
    heading = f"<h2>{html.escape(page.heading)}</h2>\n" if page.heading else ""
    return f"{heading}<table>{''.join(rows)}</tbody></table>"


def _cell(cell: Cell, base: Any) -> str:
    if cell.image is None or cell.recipe is None:
        return f'<td class="failed"><strong>could not be drawn</strong>{html.escape(cell.failure or "")}</td>'
    listed = "".join(f"<li>{html.escape(f'{name} {value}')}</li>" for name, value in differences(base, cell.recipe))
    small = ' class="small"' if cell.image.width < 256 else ""
    picture = f'<img{small} src="data:image/png;base64,{_png(cell)}" alt="{html.escape(cell.recipe.prompt or "")}">'
    recipe = html.escape(cell.recipe.to_json())
    return f'<td><button title="full size and recipe" data-recipe="{recipe}">{picture}</button><ul>{listed}</ul></td>'


def _png(cell: Cell) -> str:
    """The picture's file, with its recipe, in base64."""
    assert cell.image is not None
    assert cell.recipe is not None
    buffer = io.BytesIO()
    cell.image.convert("RGB").save(buffer, "PNG", **embedding(cell.recipe, "PNG"))
    return base64.b64encode(buffer.getvalue()).decode("ascii")
