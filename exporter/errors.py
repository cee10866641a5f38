"""`/monitoring/errors`: errors, and the groups that they make, with the commands that change a group's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..storage import Command, Store
from .described import described
from .error_answers import Cleared, Errors, GroupDetails, Groups, Transition
from .offload import QUERIES, ask, query
from .params import CURSOR, LIMIT, Param, choice, parse_group_id, read, read_path, require_order, text
from .performance import SERVICE
from .responses import Json
from .windows import SINCE, UNTIL

GroupId = Annotated[str, Meta(pattern="^[0-9a-fA-F]{16}$", examples=["4f1c2d3e0a1b4c5d"])]
GROUP = Param("group_id", parse_group_id, "16 hexadecimal digits", type=GroupId, about="Of the group.")
TYPE = text("type", about="The exception's type.")
STATE = choice("state", "open", "resolved", "muted", about="Of the group.")
OPERATIONAL = Param(
    "operational",
    lambda word: {"true": True, "false": False}[_word(word)],
    "true or false",
    type=bool,
    about="Whether the error was expected: its request was answered with a status under 500, or it says so itself.",
)
SORT = choice("sort", "last_seen", "first_seen", "count", default="last_seen", about="By what, the highest first.")
OF_GROUP = Param("group", parse_group_id, "16 hexadecimal digits", type=GroupId, about="Id of the errors' group.")

ERRORS = (LIMIT, CURSOR, SERVICE, TYPE, OF_GROUP, STATE, OPERATIONAL, SINCE, UNTIL)
GROUPS = (LIMIT, CURSOR, SORT, SERVICE, TYPE, STATE, SINCE, UNTIL)


def _word(word: str) -> str:
    if word not in {"true", "false"}:
        raise ValueError(word)
    return word


@described(Errors, params=ERRORS, tag="errors")
async def errors(request: Request) -> Json:
    """`GET /monitoring/errors`: errors, newest first, with statistics of all."""
    values = read(request, ERRORS)
    require_order(request, values, SINCE, UNTIL)
    return Json(await query(request, lambda store: Errors.of(store.errors(**values), store.error_stats())))


@described(Cleared, also={202: Cleared}, tag="errors")
async def clear(request: Request) -> Json:
    """`POST /monitoring/errors/clear`: 200 when applied, 202 when the writer hasn't got to it yet."""
    read(request, ())
    command = await ask(request, QUERIES, lambda store: store.clear_errors())
    cleared = command.result.get("cleared") if command.applied else None
    return Json(Cleared(command.id, cleared), 200 if command.applied else 202)


@described(Groups, params=GROUPS, tag="errors")
async def groups(request: Request) -> Json:
    """`GET /monitoring/errors/groups`: error groups that were met in a time, newest activity first."""
    values = read(request, GROUPS)
    require_order(request, values, SINCE, UNTIL)
    return Json(await query(request, lambda store: Groups.of(store.error_groups(**values))))


@described(GroupDetails, path=(GROUP,), problems=(404,), tag="errors")
async def group(request: Request) -> Json:
    """`GET /monitoring/errors/groups/{group_id}`: one group with its hours, releases and samples."""
    read(request, ())
    group_id = read_path(request, GROUP)
    found = await query(request, lambda store: store.error_group(group_id))
    if found is None:
        raise _unknown(group_id)
    return Json(GroupDetails.of(found))


@described(Transition, path=(GROUP,), problems=(404,), also={202: Transition}, tag="errors")
async def resolve(request: Request) -> Json:
    """`POST /monitoring/errors/groups/{group_id}/resolve`: the next error, from now on, is a regression."""
    return await _change(request, Store.resolve_group)


@described(Transition, path=(GROUP,), problems=(404,), also={202: Transition}, tag="errors")
async def mute(request: Request) -> Json:
    """`POST /monitoring/errors/groups/{group_id}/mute`: it is counted on, and stays muted whatever comes."""
    return await _change(request, Store.mute_group)


@described(Transition, path=(GROUP,), problems=(404,), also={202: Transition}, tag="errors")
async def reopen(request: Request) -> Json:
    """`POST /monitoring/errors/groups/{group_id}/reopen`: it is open again."""
    return await _change(request, Store.reopen_group)


async def _change(request: Request, command: Callable[[Store, str], Command]) -> Json:
    """200 when applied, 202 when the writer hasn't got to it yet."""
    read(request, ())
    group_id = read_path(request, GROUP)
    if await query(request, lambda store: store.error_group(group_id)) is None:
        raise _unknown(group_id)
    done = await ask(request, QUERIES, lambda store: command(store, group_id))
    if done.applied and not done.result.get("found"):
        raise _unknown(group_id)
    return Json(Transition.of(group_id, done), 200 if done.applied else 202)


def _unknown(group_id: str) -> HTTPException:
    return HTTPException(404, f"There is no error group {group_id}.")
