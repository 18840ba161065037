"""Colour maps by name: those of matplotlib and cmocean as rio-tiler carries them, and a few for water and classes.

Names are found in any case, and `_r` after one reverses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.errors import ColormapUnknown

Colour = tuple[int, int, int, int]
Table = npt.NDArray[np.uint8]

SHOWN_COLOURS = 11

# Depths in metres are negative heights: the deepest comes first.
_GRADIENTS: Mapping[str, Sequence[str]] = {
    "bathymetry": ("#08103a", "#0b2a6b", "#10509a", "#1f7ab8", "#45a5c9", "#85cdd6", "#c6ecdf", "#f5f9e6"),
    "topobathy": ("#08103a", "#10509a", "#45a5c9", "#c6ecdf", "#3c8c4a", "#a8c66c", "#e6d59a", "#a77a52", "#ffffff"),
    "ndwi": ("#8c6d46", "#d9c9a3", "#f2f0e6", "#7fc4dd", "#1f6fb2", "#0b2f70"),
}

# Colours of the producers' own legends.
_CLASSES: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "scl": (
        "Sentinel-2 scene classes",
        {
            0: "#000000",
            1: "#ff0000",
            2: "#2f2f2f",
            3: "#643200",
            4: "#00a000",
            5: "#ffe65a",
            6: "#0000ff",
            7: "#808080",
            8: "#c0c0c0",
            9: "#ffffff",
            10: "#64c8ff",
            11: "#ff96ff",
        },
    ),
    "worldcover": (
        "ESA WorldCover",
        {
            10: "#006400",
            20: "#ffbb22",
            30: "#ffff4c",
            40: "#f096ff",
            50: "#fa0000",
            60: "#b4b4b4",
            70: "#f0f0f0",
            80: "#0064c8",
            90: "#0096a0",
            95: "#00cf75",
            100: "#fae6a0",
        },
    ),
}

_GROUPS: Mapping[str, Sequence[str]] = {
    "sequential": (
        *("Greys", "Purples", "Blues", "Greens", "Oranges", "Reds", "YlGn", "YlGnBu", "YlOrBr", "YlOrRd", "BuGn", "BuPu"),
        *("GnBu", "OrRd", "PuBu", "PuBuGn", "PuRd", "RdPu", "gray", "hot", "bone", "copper", "cool", "thermal", "algae"),
    ),
    "diverging": (
        *("RdYlGn", "RdYlBu", "RdBu", "RdGy", "PiYG", "PRGn", "BrBG", "PuOr", "Spectral", "coolwarm", "bwr", "seismic"),
        *("balance", "delta", "curl", "ndwi"),
    ),
    "perceptual": ("viridis", "magma", "inferno", "plasma", "cividis", "turbo", "haline", "solar", "matter", "speed"),
    "terrain": ("terrain", "gist_earth", "bathymetry", "topobathy", "topo", "ocean", "deep", "dense", "ice"),
    "categorical": ("tab10", "tab20", "Set1", "Set2", "Set3", "Paired", "Accent", "Dark2", "Pastel1", *_CLASSES),
}

_LABELS: Mapping[str, str] = {
    "RdYlGn": "Red to green",
    "RdYlBu": "Red to blue over yellow",
    "RdBu": "Red to blue",
    "YlGn": "Yellow to green",
    "gray": "Grey",
    "gist_earth": "Earth",
    "topobathy": "Sea floor and land",
    "ndwi": "Dry to wet",
    **{name: label for name, (label, _) in _CLASSES.items()},
}


@lru_cache(maxsize=512)
def colormap(name: str) -> Table:
    """The 256 colours of a map, (256, 4) of red, green, blue and alpha; of a class map, by value.

    Raises ColormapUnknown.
    """
    known = name.lower()
    if known.endswith("_r"):
        if known.removesuffix("_r") in _CLASSES:
            raise ColormapUnknown(name)
        table = colormap(name[:-2])[::-1].copy()
    elif known in _GRADIENTS:
        table = _gradient([_rgb(colour) for colour in _GRADIENTS[known]])
    elif known in _CLASSES:
        table = _by_value(dict(categories(known) or ()))
    else:
        table = _carried(name, known)
    table.flags.writeable = False
    return table


def categories(name: str) -> tuple[tuple[float, Colour], ...] | None:
    """The colours by value of a class map; None for any other map."""
    found = _CLASSES.get(name.lower())
    return None if found is None else tuple((float(value), _rgb(colour)) for value, colour in found[1].items())


@lru_cache(maxsize=1)
def listed() -> dict[str, list[dict[str, Any]]]:
    """All maps by group, each as name, label and colours (#rrggbb): of a gradient a few at even steps, else all."""
    return {
        group: [{"name": name, "label": _label(name), "colors": _shown(name, group)} for name in names]
        for group, names in _GROUPS.items()
    }


def _label(name: str) -> str:
    return _LABELS.get(name) or name.replace("_", " ").capitalize()


def _shown(name: str, group: str) -> list[str]:
    if name in _CLASSES:
        return list(_CLASSES[name][1].values())
    colours = ["#{:02x}{:02x}{:02x}".format(*colour[:3].tolist()) for colour in colormap(name)]
    if group == "categorical":
        return list(dict.fromkeys(colours))
    return [colours[round(place)] for place in np.linspace(0, 255, SHOWN_COLOURS)]


def _carried(name: str, known: str) -> Table:
    # rio-tiler takes a third of a second to import; a deployment that only lists or draws grey never needs it.
    from rio_tiler.colormap import cmap  # noqa: PLC0415
    from rio_tiler.errors import InvalidColorMapName  # noqa: PLC0415

    try:
        found = cmap.get(known)
    except InvalidColorMapName:
        raise ColormapUnknown(name) from None
    return np.array([found[value] for value in range(256)], dtype=np.uint8)


def _gradient(stops: Sequence[Colour]) -> Table:
    places = np.linspace(0, 255, len(stops))
    channels = [np.interp(np.arange(256), places, channel) for channel in zip(*stops, strict=True)]
    return np.round(np.column_stack(channels)).astype(np.uint8)


def _by_value(colours: Mapping[float, Colour]) -> Table:
    table = np.zeros((256, 4), dtype=np.uint8)
    for value, colour in colours.items():
        table[int(value)] = colour
    return table


def _rgb(text: str) -> Colour:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16), 255
