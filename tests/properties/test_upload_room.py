"""Room for uploads against a plain model: whatever happens in whatever order, what is reserved is what open sessions hold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from pydantic import BaseModel

from geopera_server.domains.uploads.ending import end_uploads_of_project
from geopera_server.domains.uploads.examining import Examined, Piece, UploadCompleteInput
from geopera_server.domains.uploads.operations import completing, receiving
from geopera_server.domains.uploads.store import files
from geopera_server.domains.uploads.upkeep import expire_idle_uploads
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.operation import operation, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import service
from geopera_server.values.ids import new_id
from support.house import Household, inhabited
from support.uploads import reserved

QUOTA = 1_000
SIZES = st.integers(0, 450)
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}


class ProjectInput(BaseModel):
    project_id: str


class Ended(BaseModel):
    ended: int


@operation("properties.uploads.end", effect="destructive", scope="projects:write", internal=True)
async def end_all(ctx: Context, given: ProjectInput) -> Ended:
    """Ends the uploads of a project as deleting it does."""
    return Ended(ended=await end_uploads_of_project(ctx, given.project_id))


class CompleteInput(BaseModel):
    upload_id: str
    file_id: str
    path: str


@operation("properties.uploads.complete", effect="compute", scope="uploads:write", produces=("item",), internal=True, raw=True)
async def complete_with(ctx: Context, given: CompleteInput) -> completing.UploadCompleted:
    """Completes an upload as after a look at its file, which here is only a number of bytes."""
    [file] = await files.files_of(ctx.conn, ctx.organization_id, given.upload_id)
    asset = {
        "href": given.path, "media_type": "image/tiff", "roles": ["data"], "file_name": "a.tif",
        "file_size_bytes": file["size_bytes"], "checksum": "sha256:00",
    }  # fmt: skip
    piece = Piece(
        file_ids=(given.file_id,), stem="a", kind="raster", asset=asset, companions=(), footprint=SQUARE, gsd=1.0,
        acquired=None, detected={},
    )  # fmt: skip
    found = Examined(paths={given.file_id: given.path}, pieces=[piece], given={}, at=None)
    return await completing.complete(ctx, UploadCompleteInput(upload_id=given.upload_id), found)


@dataclass
class Session:
    """A session as the model has it: sizes of its one file as stored, and of a transfer in parts."""

    id: str
    declared: int
    file_id: str | None = None
    stored: int = 0
    transfer: str | None = None
    coming: int = 0
    has: int = 0
    ended: bool = False
    completed: bool = False

    @property
    def holds(self) -> int:
        if self.ended:
            return 0
        return self.declared or max(self.stored, self.coming)


@dataclass
class World:
    """The house and the loop it lives on."""

    loop: asyncio.AbstractEventLoop
    household: Household
    sessions: list[Session] = field(default_factory=list)

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def step(self, handler, session: Session, **given) -> str | None:
        """Tells the session of bytes as the receiver does; returns the code of a refusal."""
        principal = service(organization_id=self.household.place.home.organization_id)
        about = {"upload_id": session.id, "file_id": session.file_id, **given}
        try:
            await self.household.house.kernel.run(Call(operation=operation_of(handler), given=about, principal=principal))
        except OperationError as error:
            return error.code
        return None


class Room(RuleBasedStateMachine):
    world: World
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Session] = []
        self.do, self.owner = self.world.do, self.world.household.owner
        self.kept = 0
        self.do(self.world.household.sql("DELETE FROM upload"))
        self.do(self.world.household.sql("DELETE FROM asset"))

    @property
    def held(self) -> int:
        return sum(session.holds for session in self.known)

    @property
    def room(self) -> int:
        return QUOTA - self.held - self.kept

    @rule(target=sessions, declared=st.just(0) | SIZES, announced=st.booleans())
    def initiate(self, declared, announced):
        given = {"project_id": self.world.household.project_id, "total_bytes": declared}
        session = Session(id="", declared=declared)
        if declared > self.room:
            assert self.do(self.owner.refused("uploads.initiate", given)) == (402, "storage_quota_exceeded")
            session.ended = True
        else:
            session.id = self.do(self.owner.op("uploads.initiate", given))["id"]
            self.known.append(session)
            if announced:
                self.announce_file(session)
        return session

    @rule(session=sessions)
    def announce(self, session):
        if session.id:
            self.announce_file(session)

    def announce_file(self, session):
        asked = {"upload_id": session.id, "file_name": "a.tif"}
        if session.ended:
            assert self.do(self.owner.refused("uploads.signed_url", asked)) == (409, "illegal_state")
        elif not session.declared and not self.room:
            assert self.do(self.owner.refused("uploads.signed_url", asked)) == (402, "storage_quota_exceeded")
        else:
            self.do(self.owner.op("uploads.signed_url", asked))
            [row] = self.do(self.world.household.sql("SELECT id FROM upload_file WHERE upload_id = %s", session.id))
            session.file_id = row["id"]

    @rule(session=sessions, size=SIZES)
    def store(self, session, size):
        """A whole file has come; more than was declared is stopped before it is told of."""
        if session.file_id is None or (session.declared and size > session.declared):
            return
        told = {"path": f"made/up/{new_id()}", "size_bytes": size, "sha256": "00", "crc32c": "AAAAAA=="}
        more = (session.declared or size) - session.holds
        code = self.do(self.world.step(receiving.stored, session, **told))
        if session.ended:
            assert code == "illegal_state"
        elif more > self.room:
            assert code == "storage_quota_exceeded"
        else:
            assert code is None
            session.stored, session.transfer, session.coming, session.has = size, None, 0, 0

    @rule(session=sessions, size=st.integers(1, 450))
    def begin_parts(self, session, size):
        if session.file_id is None or (session.declared and size > session.declared):
            return
        more = (session.declared or max(session.stored, size)) - session.holds
        code = self.do(self.world.step(receiving.begin, session, total_bytes=size))
        if session.ended:
            assert code == "illegal_state"
        elif more > self.room:
            assert code == "storage_quota_exceeded"
        else:
            assert code is None
            [row] = self.do(self.world.household.sql("SELECT transfer_id FROM upload_file WHERE id = %s", session.file_id))
            session.transfer, session.coming, session.has = row["transfer_id"], size, 0

    @rule(session=sessions, size=st.integers(1, 450), late=st.booleans())
    def part(self, session, size, late):
        """A part has come; one of a transfer that is not the present one, or not the next, changes nothing."""
        if session.transfer is None:
            return
        size = min(size, session.coming - session.has)
        if size == 0:
            return
        told = {
            "transfer_id": session.transfer, "start_byte": session.has + late, "size_bytes": size,
            "path": f"made/up/{new_id()}", "total_bytes": session.coming,
        }  # fmt: skip
        code = self.do(self.world.step(receiving.part, session, **told))
        if session.ended:
            assert code == "illegal_state"
        elif late:
            assert code == "conflict"
        else:
            assert code is None
            session.has += size

    @rule(session=sessions)
    def complete(self, session):
        """What was reserved becomes what is stored, of a session with a file and once."""
        if session.file_id is None:
            return
        given = {"upload_id": session.id}
        if session.ended:
            assert self.do(self.owner.refused("uploads.complete", given)) == (409, "illegal_state")
            return
        [file] = self.do(self.world.household.sql("SELECT * FROM upload_file WHERE id = %s", session.file_id))
        if file["stored_path"] is None:
            assert self.do(self.owner.refused("uploads.complete", given)) == (409, "illegal_state")
            return
        self.do(self.owner.run(complete_with, {**given, "file_id": file["id"], "path": file["stored_path"]}))
        self.kept += session.stored
        session.ended = session.completed = True

    @rule(session=consumes(sessions), twice=st.booleans())
    def give_up(self, session, twice):
        if not session.id:
            return
        if session.completed:
            given = {"upload_id": session.id, "error_message": "x"}
            assert self.do(self.owner.refused("uploads.fail", given)) == (409, "illegal_state")
            return
        for _ in range(1 + twice):
            told = self.do(self.owner.op("uploads.fail", {"upload_id": session.id, "error_message": "x"}))
            assert (told["status"], told["reserved_bytes"]) == ("failed", 0)
        session.ended = True

    @rule(session=sessions)
    def go_idle(self, session):
        if not session.id:
            return
        self.do(self.world.household.sql("UPDATE upload SET expires_at = now() WHERE id = %s", session.id))
        assert self.do(expire_idle_uploads(self.world.household.house.kernel)) == (not session.ended)
        session.ended = True

    @rule()
    def project_ends(self):
        still_open = sum(not session.ended for session in self.known)
        told = self.do(self.owner.run(end_all, {"project_id": self.world.household.project_id}))
        assert told == {"ended": still_open}
        for session in self.known:
            session.ended, session.id, session.file_id, session.transfer = True, "", None, None

    @invariant()
    def what_is_reserved_is_what_open_sessions_hold(self):
        organization_id = self.world.household.place.home.organization_id
        assert self.do(reserved(self.world.household.sql, organization_id)) == (self.held, self.held)
        assert self.room >= 0
        [total] = self.do(
            self.world.household.sql("SELECT bytes FROM storage_total WHERE organization_id = %s", organization_id)
        ) or [{"bytes": 0}]
        assert total["bytes"] == self.kept


@pytest.mark.timeout(300)
async def test_room_is_reserved_and_given_back_exactly_once(database, place, tmp_path):
    async with inhabited(database, place, tmp_path) as household:
        await household.sql("UPDATE plan SET included = included || %s::jsonb, overage = '{}'", f'{{"storage_bytes": {QUOTA}}}')
        Room.world = World(asyncio.get_running_loop(), household)
        chosen = settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        await asyncio.to_thread(run_state_machine_as_test, Room, settings=chosen)
