"""Sheets: pictures side by side with what they were made from, as one PNG or one HTML file. Needs neither torch nor a model."""

from sfumato.sheets.differences import differences
from sfumato.sheets.page import Cell, Page, Sheet
from sfumato.sheets.png import draw_page
from sfumato.sheets.web import web_page

__all__ = ["Cell", "Page", "Sheet", "differences", "draw_page", "web_page"]
