"""Finds open scenes and samples, and says what of them may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from shapely.geometry import shape

from geopera_server.domains.catalog.captures import CaptureProblem, FoundCapture, WantedCapture
from geopera_server.domains.catalog.lookup import find_captures, hosts_offering
from geopera_server.domains.scenes.families import Family, SceneBand, bands_in
from geopera_server.domains.scenes.remembering import Remembered
from geopera_server.domains.visualization.pictures import pictures
from geopera_server.domains.visualization.shapes import VisualizationSpec
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import NotFound, OperationError, Unavailable
from geopera_server.ports.renders import Renders

SAMPLE_MARK = "geopera:sample"
_known: WeakKeyDictionary[Renders, Remembered[Scene]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene that anybody may look at, with its bands and the pictures they offer, which number the bands from 1."""

    capture: FoundCapture
    bands: Sequence[SceneBand]
    visualizations: Sequence[VisualizationSpec]

    @property
    def bounds(self) -> list[float]:
        """West, south, east, north in degrees."""
        return list(shape(self.capture.footprint).bounds)

    def picture(self, visualization_id: str) -> VisualizationSpec | None:
        """Returns a picture by its id."""
        return next((each for each in self.visualizations if each.id == visualization_id), None)


async def open_scene(outside: Outside, family: Family, scene_id: str) -> Scene:
    """Returns a scene of open data from whichever host has it; raises NotFound, or Unavailable when one of them is silent.

    What was told less than a minute ago is told again.
    """
    known = _known.setdefault(outside.ports.renders, Remembered())
    return await known.get(f"{family.id}/{scene_id}", lambda: _open_scene(outside, family, scene_id))


async def _open_scene(outside: Outside, family: Family, scene_id: str) -> Scene:
    hosts = await hosts_offering(outside, family.collections)
    wanted = [WantedCapture(host, scene_id) for host in hosts]
    refusals: list[OperationError] = []
    for found in await find_captures(outside, wanted, for_order=False):
        if isinstance(found, CaptureProblem):
            refusals.append(_refusal(found))
        elif found.open_data and found.collection in family.collections:
            return _as_scene(found, family)
    silent = [each for each in refusals if not isinstance(each, NotFound)]
    raise silent[0] if silent else NotFound(detail=f"There is no {family.title} scene {scene_id!r} at any host.")


async def sample_scene(outside: Outside, provider: str, scene_id: str) -> Scene:
    """Returns a scene that its provider lets everybody look at; raises NotFound."""
    [scene] = await sample_scenes(outside, [(provider, scene_id)])
    return scene


async def sample_scenes(outside: Outside, wanted: Sequence[tuple[str, str]]) -> list[Scene]:
    """Returns scenes, by provider and id, that their providers let everybody look at; raises NotFound."""
    scenes = []
    for found in await find_captures(outside, wanted, for_order=False):
        if isinstance(found, CaptureProblem):
            raise _refusal(found)
        if found.properties.get(SAMPLE_MARK) is not True:
            raise NotFound(detail=f"{found.id!r} of {found.host!r} is no sample. catalog.provider.samples lists them.")
        scenes.append(_as_scene(found, None))
    return scenes


def _as_scene(capture: FoundCapture, family: Family | None) -> Scene:
    bands = bands_in(capture, family)
    roles = {band.role: number for number, band in enumerate(bands, start=1)}
    scales = {(band.scale, band.offset) for band in bands}
    known = scales.pop() if len(scales) == 1 else None
    if family is None and known == (1.0, 0.0):
        known = None
    scale, offset = known or (None, 0.0)
    return Scene(capture, bands, pictures("raster", roles, render_params={"scale": scale, "offset": offset}))


def _refusal(problem: CaptureProblem) -> OperationError:
    if problem.code != "host_failed":
        return NotFound(detail=problem.message)
    return Unavailable(problem.message, code="upstream_timeout" if problem.timed_out else "upstream_error", retry_after_s=30)
