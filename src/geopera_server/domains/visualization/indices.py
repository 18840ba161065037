"""Published spectral indices as data: formulas over the roles of bands, the values they take and where they come from."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

_ROLE = re.compile(r"\b[a-z]+\d*\b")


@dataclass(frozen=True, slots=True)
class Index:
    """One index. `of_reflectance` says that its constants hold for reflectance from 0 to 1, not for stored numbers."""

    id: str
    label: str
    name: str
    formula: str
    source: str
    category: str
    colormap: str
    value_range: tuple[float, float] = (-1.0, 1.0)
    of_reflectance: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """Returns the roles that the formula needs, in the order of their first use."""
        return tuple(dict.fromkeys(_ROLE.findall(self.formula)))

    def over(self, bands: Mapping[str, int], *, scale: float = 1.0, offset: float = 0.0) -> str:
        """Returns the formula with band references b1 … bN for roles, each brought to reflectance where that matters.

        A ratio of sums does not change when all bands are scaled, but does when they are shifted.
        """
        scaled = offset != 0.0 or (self.of_reflectance and scale != 1.0)

        def reference(role: re.Match[str]) -> str:
            name = f"b{bands[role[0]]}"
            if not scaled:
                return name
            return f"({name}*{_plain(scale)}{'' if offset == 0 else f'{_plain(offset, signed=True)}'})"

        return _ROLE.sub(reference, self.formula)


def _plain(number: float, *, signed: bool = False) -> str:
    text = f"{number:{'+' if signed else ''}.10f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


_vegetation = functools.partial(Index, category="vegetation", colormap="RdYlGn")
_water = functools.partial(Index, category="water", colormap="RdBu")
_ground = functools.partial(Index, category="ground", colormap="YlOrBr")
_fire = functools.partial(Index, category="fire", colormap="RdYlGn")

_ALL = (
    _vegetation(
        "ndvi", "NDVI", "Normalized Difference Vegetation Index", "(nir - red) / (nir + red)",
        "Rouse et al. 1974, NASA SP-351",
    ),
    _vegetation(
        "evi", "EVI", "Enhanced Vegetation Index", "2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)",
        "Huete et al. 2002, doi:10.1016/S0034-4257(02)00096-2", of_reflectance=True,
    ),
    _vegetation(
        "evi2", "EVI2", "Two-band Enhanced Vegetation Index", "2.5 * (nir - red) / (nir + 2.4 * red + 1)",
        "Jiang et al. 2008, doi:10.1016/j.rse.2008.06.006", of_reflectance=True,
    ),
    _vegetation(
        "savi", "SAVI", "Soil Adjusted Vegetation Index", "1.5 * (nir - red) / (nir + red + 0.5)",
        "Huete 1988, doi:10.1016/0034-4257(88)90106-X", of_reflectance=True,
    ),
    _vegetation(
        "osavi", "OSAVI", "Optimized Soil Adjusted Vegetation Index", "(nir - red) / (nir + red + 0.16)",
        "Rondeaux et al. 1996, doi:10.1016/0034-4257(95)00186-7", of_reflectance=True,
    ),
    _vegetation(
        "msavi", "MSAVI", "Modified Soil Adjusted Vegetation Index",
        "0.5 * (2 * nir + 1 - ((2 * nir + 1) ** 2 - 8 * (nir - red)) ** 0.5)",
        "Qi et al. 1994, doi:10.1016/0034-4257(94)90134-1", of_reflectance=True,
    ),
    _vegetation(
        "gndvi", "GNDVI", "Green Normalized Difference Vegetation Index", "(nir - green) / (nir + green)",
        "Gitelson et al. 1996, doi:10.1016/S0034-4257(96)00072-7",
    ),
    _vegetation(
        "ndre", "NDRE", "Normalized Difference Red Edge Index", "(nir - rededge1) / (nir + rededge1)",
        "Gitelson and Merzlyak 1994, doi:10.1016/1011-1344(93)06963-4",
    ),
    _vegetation(
        "cig", "CI green", "Chlorophyll Index Green", "nir / green - 1",
        "Gitelson et al. 2003, doi:10.1078/0176-1617-00887", value_range=(0.0, 8.0), colormap="YlGn",
    ),
    _vegetation(
        "cire", "CI red edge", "Chlorophyll Index Red Edge", "nir / rededge1 - 1",
        "Gitelson et al. 2003, doi:10.1078/0176-1617-00887", value_range=(0.0, 4.0), colormap="YlGn",
    ),
    _vegetation(
        "arvi", "ARVI", "Atmospherically Resistant Vegetation Index",
        "(nir - (2 * red - blue)) / (nir + (2 * red - blue))", "Kaufman and Tanré 1992, doi:10.1109/36.134076",
    ),
    _vegetation(
        "vari", "VARI", "Visible Atmospherically Resistant Index", "(green - red) / (green + red - blue)",
        "Gitelson et al. 2002, doi:10.1016/S0034-4257(01)00289-9",
    ),
    _vegetation(
        "ndmi", "NDMI", "Normalized Difference Moisture Index", "(nir - swir16) / (nir + swir16)",
        "Gao 1996, doi:10.1016/S0034-4257(96)00067-3", category="moisture", colormap="RdBu",
    ),
    _vegetation(
        "msi", "MSI", "Moisture Stress Index", "swir16 / nir", "Hunt and Rock 1989, doi:10.1016/0034-4257(89)90046-1",
        value_range=(0.0, 2.0), category="moisture", colormap="RdBu_r",
    ),
    _water(
        "ndwi", "NDWI", "Normalized Difference Water Index", "(green - nir) / (green + nir)",
        "McFeeters 1996, doi:10.1080/01431169608948714",
    ),
    _water(
        "mndwi", "MNDWI", "Modified Normalized Difference Water Index", "(green - swir16) / (green + swir16)",
        "Xu 2006, doi:10.1080/01431160600589179",
    ),
    _water(
        "awei", "AWEI", "Automated Water Extraction Index",
        "4 * (green - swir16) - (0.25 * nir + 2.75 * swir22)", "Feyisa et al. 2014, doi:10.1016/j.rse.2013.08.029",
        of_reflectance=True,
    ),
    _water(
        "ndti", "NDTI", "Normalized Difference Turbidity Index", "(red - green) / (red + green)",
        "Lacaux et al. 2007, doi:10.1016/j.rse.2006.07.012", value_range=(-0.5, 0.5), colormap="YlOrBr",
    ),
    _water(
        "ndci", "NDCI", "Normalized Difference Chlorophyll Index", "(rededge1 - red) / (rededge1 + red)",
        "Mishra and Mishra 2012, doi:10.1016/j.rse.2011.10.016", value_range=(-0.5, 0.5), colormap="YlGn",
    ),
    _water(
        "ndsi", "NDSI", "Normalized Difference Snow Index", "(green - swir16) / (green + swir16)",
        "Hall et al. 1995, doi:10.1016/0034-4257(95)00137-P", category="snow", colormap="Blues_r",
    ),
    _fire(
        "nbr", "NBR", "Normalized Burn Ratio", "(nir - swir22) / (nir + swir22)",
        "Key and Benson 2006, USDA RMRS-GTR-164-CD",
    ),
    _fire(
        "nbr2", "NBR2", "Normalized Burn Ratio 2", "(swir16 - swir22) / (swir16 + swir22)",
        "USGS, Landsat Collection 2 spectral indices guide, LSDS-1618",
    ),
    _fire(
        "bai", "BAI", "Burned Area Index", "1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2)",
        "Chuvieco et al. 2002, doi:10.1080/01431160210153129", of_reflectance=True, value_range=(0.0, 300.0),
        colormap="inferno",
    ),
    _ground(
        "ndbi", "NDBI", "Normalized Difference Built-up Index", "(swir16 - nir) / (swir16 + nir)",
        "Zha et al. 2003, doi:10.1080/01431160304987", category="urban", colormap="magma",
    ),
    _ground(
        "bsi", "BSI", "Bare Soil Index", "((swir16 + red) - (nir + blue)) / ((swir16 + red) + (nir + blue))",
        "Rikimaru et al. 2002, Tropical Ecology 43(1)",
    ),
    _ground(
        "iron_oxide", "Iron oxide", "Iron Oxide Ratio", "red / blue", "Segal 1982, doi:10.1190/1.1441383",
        value_range=(0.0, 4.0), category="geology",
    ),
    _ground(
        "clay", "Clay minerals", "Clay Minerals Ratio", "swir16 / swir22", "Drury 1987, Image Interpretation in Geology",
        value_range=(0.5, 2.5), category="geology",
    ),
    _ground(
        "ferrous", "Ferrous minerals", "Ferrous Minerals Ratio", "swir16 / nir",
        "Segal 1982, doi:10.1190/1.1441383", value_range=(0.0, 3.0), category="geology",
    ),
)  # fmt: skip

INDICES: Mapping[str, Index] = {index.id: index for index in _ALL}
