"""Small raw files, and altered copies of real ones."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.movielens_100k import GROUPLENS_GENRES

SMALL_ML_1M = {
    "ratings.dat": "1::10::5::978300760\n1::20::3::978302109\n2::10::4::978301968\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
    "movies.dat": "10::Toy Story (1995)::Animation|Comedy\n"
    "20::Misérables, Les (1995)::Drama\n30::Heat (1995)::Action\n",
}


def write_files(folder: Path, files: dict[str, str], encoding: str = "latin-1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode(encoding))
    return folder


def copy_files(source: Path, target: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((source / name).read_bytes())
    return target


def replace_line(path: Path, number: int, new: str | bytes | None) -> None:
    """Replace a line, counted from 1, or take it out."""
    lines = path.read_bytes().split(b"\n")
    if new is None:
        del lines[number - 1]
    else:
        lines[number - 1] = new.encode() if isinstance(new, str) else new
    path.write_bytes(b"\n".join(lines))


def grouplens_ml_100k(recbole: Path, target: Path) -> Path:
    """Write RecBole's copy in GroupLens' layout: latin-1, years in brackets behind the titles, flags for genres."""
    target.mkdir(parents=True)
    ratings = (recbole / "ml-100k.inter").read_bytes().split(b"\n", 1)[1]
    (target / "u.data").write_bytes(ratings)
    users = (recbole / "ml-100k.user").read_text().splitlines()[1:]
    (target / "u.user").write_text("".join(user.replace("\t", "|") + "\n" for user in users))
    movies = (recbole / "ml-100k.item").read_text(encoding="utf-8").splitlines()[1:]
    (target / "u.item").write_bytes("".join(map(_grouplens_movie, movies)).encode("latin-1"))
    return target


def _grouplens_movie(line: str) -> str:
    movie, title, year, genres = line.split("\t")
    if title == "unkonwn":
        title, released = "unknown", ""
    elif year == "V":
        title, released = f"{title} (V)", "01-Jan-1995"
    else:
        title, released = f"{title} ({year})", f"01-Jan-{year}"
    if movie == "1201":
        title += " "  # GroupLens has titles with a stray space at the end
    flags = "|".join("1" if genre in genres.split() else "0" for genre in GROUPLENS_GENRES)
    return f"{movie}|{title}|{released}||http://example.org/{movie}|{flags}\n"
