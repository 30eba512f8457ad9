"""Vega, Vega-Lite and vega-embed as one script, so that the page draws its charts offline.

The script comes from the package vl-convert-python.
"""

import json

import vl_convert

from common.errors import PipelineError
from model.curves.style import COLOURS, DARK_COLOURS, DARK_GREY, GREY

VEGA_LITE = "6.4"


def bundle() -> str:
    """Return the script, which defines `embedChart` and `look`.

    Raises PipelineError if the script contains text that would end its HTML element.
    """
    text = vl_convert.javascript_bundle("window.embedChart = vegaEmbed;", vl_version=VEGA_LITE)
    for mark in ("</script", "<!--", "<script"):
        if mark in text.lower():
            version = vl_convert.__version__  # type: ignore[attr-defined]  # its stub lacks it
            raise PipelineError(
                f"the bundle of vl-convert-python {version} has {mark} in it and would end its"
                " element"
            )
    # Pairs of colours, for a light page and for a dark one.
    look = [*zip(COLOURS, DARK_COLOURS, strict=True), (GREY, DARK_GREY)]
    return f"{text}\nwindow.look = {json.dumps(look)};"
