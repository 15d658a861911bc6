"""A partition as a file: which row or picture file of a data set is whose, to read and to write.

CSV with a header: ``client`` and ``row`` (a row's number in the data set's training part, from 0)
or ``file`` (a picture's path from the data set's folder); a client whose ``row`` is empty holds
nothing. JSON: a list with a list for each client, or an object with a list for each client's name.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regl_app.core.errors import DataError
from regl_app.core.files import write_bytes
from regl_app.core.near_names import close_to
from regl_app.core.types import Indices
from regl_app.data.row_facts import DataSetRows, as_whole, in_order, is_number

_TOLD = 5
_REMEDY = "docs/data.md shows the format; regl partition --write makes such a file"


@dataclass(frozen=True)
class Entry:
    """One assignment: where it stands, whose it is, and a row's number or a file; None: nothing."""

    where: str
    client: str
    what: int | str | None


def read_partition(path: Path, rows: DataSetRows, clients: int) -> dict[int, int]:
    """Return the client of each row that ``path`` gives to one.

    Clients are 0 to K - 1; where they have other names, these are numbered in their order.

    Raises:
        DataError: it cannot be read, names rows that there are not, or a row twice, or others
            than ``clients`` clients; says where in the file.
    """
    entries = _entries(path)
    number = _clients(path, [entry.client for entry in entries], clients)
    owner: dict[int, int] = {}
    first: dict[int, str] = {}
    problems: list[str] = []
    for entry in entries:
        if entry.what is None:
            continue
        place = _place(entry.what, rows)
        if isinstance(place, str):
            problems.append(f"{entry.where}: {place}")
        elif place in first:
            problems.append(f"{entry.where}: {_quoted(entry.what)} is already in {first[place]}")
        else:
            owner[place], first[place] = number[entry.client], entry.where
    if problems:
        more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise DataError(f"partition.file={path}: {'; '.join(problems[:_TOLD])}{more} ({_REMEDY})")
    return owner


def check_clients(path: Path, clients: int) -> None:
    """Raise where ``path`` is no partition of ``clients`` clients, whatever the data set.

    Raises:
        DataError: it cannot be read, or names others than ``clients`` clients.
    """
    _clients(path, [entry.client for entry in _entries(path)], clients)


def clients_named(path: Path) -> int:
    """Return how many clients ``path`` is for.

    Raises:
        DataError: it cannot be read.
    """
    names = {entry.client for entry in _entries(path)}
    if _are_numbers(names):
        return max(map(int, names)) + 1
    return len(names)


def write_partition(path: Path, parts: Sequence[Indices], rows: DataSetRows) -> None:
    """Write which rows ``parts`` hold, one part a client, to ``path``: JSON or CSV by its ending.

    Picture files are written by their paths, other rows by their numbers.

    Raises:
        DataError: CSV, around whose fields blanks do not count, cannot tell two files apart.
    """
    held = [[rows.files[row] if rows.files else int(row) for row in part] for part in parts]
    if path.suffix.casefold() == ".json":
        text = json.dumps(held, ensure_ascii=False) + "\n"
    else:
        for name in (name for part in held for name in part if isinstance(name, str)):
            if _place(name.strip(), rows) != rows.place_of_file[name]:
                raise DataError(
                    f"{path}: the file {name!r} would be read as {name.strip()!r} (name it .json)"
                )
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("client", "file" if rows.files else "row"))
        for client, part in enumerate(held):
            writer.writerows((client, what) for what in (part or [""]))
        text = stream.getvalue()
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def _entries(path: Path) -> list[Entry]:
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(
            f"partition.file={path} cannot be read: {error.strerror} ({_REMEDY})"
        ) from error
    found = list(_of_json(path, text) if path.suffix.casefold() == ".json" else _of_csv(path, text))
    if not found:
        raise DataError(f"partition.file={path} gives nothing to anybody ({_REMEDY})")
    names = as_whole([entry.client for entry in found])
    _spelled_once(path, names)
    return [replace(entry, client=name) for entry, name in zip(found, names, strict=True)]


def _spelled_once(path: Path, names: Iterable[str]) -> None:
    """Refuse two spellings of one client's number: whether they are one is for people to say."""
    spelled: dict[int, str] = {}
    known = dict.fromkeys(names)
    for name in known if _are_numbers(known) else ():
        if (other := spelled.setdefault(int(name), name)) != name:
            raise DataError(
                f"partition.file={path} has clients {other!r} and {name!r}, which are one number "
                f"(write it one way; {_REMEDY})"
            )


def _of_csv(path: Path, text: str) -> Iterator[Entry]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        if "client" not in names or ("row" in names) == ("file" in names):
            raise DataError(
                f"partition.file={path}, line 1: must name the columns 'client' and either 'row' "
                f"or 'file', names {', '.join(map(repr, names)) or 'none'} ({_REMEDY})"
            )
        column = "row" if "row" in names else "file"
        for line in reader:
            where = f"line {reader.line_num}"
            client = (line["client"] or "").strip()
            if not client:
                raise DataError(f"partition.file={path}, {where}: names no client ({_REMEDY})")
            what: int | str | None = (line[column] or "").strip() or None
            if column == "row" and what is not None:
                what = _number(path, where, str(what))
            yield Entry(where, client, what)
    except csv.Error as error:
        raise DataError(f"partition.file={path}: is no CSV: {error} ({_REMEDY})") from error


def _of_json(path: Path, text: str) -> Iterator[Entry]:
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _once(path, pairs))
    except (ValueError, RecursionError) as error:
        raise DataError(f"partition.file={path}: is no JSON: {error} ({_REMEDY})") from error
    named = enumerate(content) if isinstance(content, list) else None
    items: Any = named or (content.items() if isinstance(content, dict) else ())
    for client, held in items:
        if not isinstance(held, list):
            raise DataError(
                f"partition.file={path}, client {client!r}: must be a list of row numbers or of "
                f"files, got {_quoted(held)} ({_REMEDY})"
            )
        if not held:
            yield Entry(f"client {client}", str(client).strip(), None)
        for place, what in enumerate(held):
            where = f"client {client}, entry {place}"
            if isinstance(what, bool) or not isinstance(what, int | str):
                raise DataError(
                    f"partition.file={path}, {where}: must be a row number or a file, got "
                    f"{_quoted(what)} ({_REMEDY})"
                )
            yield Entry(where, str(client).strip(), what)


def _once(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; of a name that it has twice JSON would forget the first."""
    named = Counter(name for name, _ in pairs)
    if twice := [name for name, count in named.items() if count > 1]:
        raise DataError(f"partition.file={path} names client {twice[0]!r} twice ({_REMEDY})")
    return dict(pairs)


def _number(path: Path, where: str, text: str) -> int:
    (whole,) = as_whole([text])  # 7.0 where a client holds nothing
    if not is_number(whole):
        raise DataError(
            f"partition.file={path}, {where}: row must be a whole number, got {text!r} ({_REMEDY})"
        )
    return int(whole)


def _place(what: int | str, rows: DataSetRows) -> int | str:
    """Return the row that ``what`` is, or what is wrong with it."""
    if isinstance(what, int):
        if 0 <= what < rows.total:
            return what
        return f"row {what} is not in the data set, whose training rows are 0 to {rows.total - 1}"
    if not rows.files:
        return f"{what!r} is a file, and rows of this data set are known by numbers alone"
    own = what.removeprefix("./")
    name = unicodedata.normalize("NFC", own)
    if (place := rows.place_of_file.get(own, rows.place_of_file.get(name))) is not None:
        return place
    near = close_to(name, rows.files) if len(rows.files) < 10_000 else ""
    return f"file {what!r} is not in the data set's training part{near}"


def _clients(path: Path, names: Sequence[str], clients: int) -> dict[str, int]:
    found = in_order(set(names))
    if _are_numbers(found):
        number = {name: int(name) for name in found}
        beyond = [name for name in found if number[name] >= clients]
        missing = sorted(set(range(clients)) - set(number.values()))
        if beyond:
            raise DataError(
                f"partition.file={path} has client {beyond[-1]}, and there are {clients} clients, "
                f"0 to {clients - 1} (take {number[beyond[-1]] + 1} clients)"
            )
        if missing:
            told = ", ".join(map(str, missing[:_TOLD])) + ", ..." * bool(missing[_TOLD:])
            raise DataError(
                f"partition.file={path} does not name client {told} of {clients} clients (take "
                "fewer, or give a client that holds nothing a line without a row)"
            )
        return number
    if len(found) != clients:
        raise DataError(
            f"partition.file={path} names {len(found)} clients, and there are {clients} (take "
            f"{len(found)} clients)"
        )
    return {name: number for number, name in enumerate(found)}


def _are_numbers(names: Iterable[str]) -> bool:
    return all(is_number(name) and not name.startswith("-") for name in names)


def _quoted(what: Any) -> str:
    return f"row {what}" if isinstance(what, int) else repr(what)[:100]
