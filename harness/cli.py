"""The commands. Thin: each reads its options, calls the harness and prints."""

from __future__ import annotations

import atexit
import gc
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.console import plain_console
from harness.errors import DiffbenchError
from harness.places import places
from harness.quick_imports import quick_imports

if TYPE_CHECKING:  # what only some commands need, they import themselves: `--help` does without torch
    from harness.tables import Table

WIDTH = 170
INTERRUPTED = 130
"""The exit code that typer makes of Ctrl-C."""

app = typer.Typer(
    name="diffbench",
    help="Tune, repeat and compare diffusion recommenders and their baselines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Prepare and check datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


class Format(StrEnum):
    """How a table is printed."""

    text = "text"
    md = "md"
    csv = "csv"
    latex = "latex"


TableName = Annotated[str, typer.Argument(help="A folder of results/, for example csdm/table1.", show_default=False)]
Datasets = Annotated[list[str] | None, typer.Option(help="Only these datasets, separated by commas.")]
Methods = Annotated[list[str] | None, typer.Option(help="Only these rows or methods, separated by commas.")]
Seeds = Annotated[list[str] | None, typer.Option(help="Only these seeds, for example 0-4,7.")]
Published = Annotated[
    bool, typer.Option("--published", help="Skip the search: the parameters that search_spaces/ has as published.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a parameter, search.trials, threads, gpus, feed, workers: key=value."),
]
StoreOption = Annotated[str | None, typer.Option("--store", help="Folder or URI of the trials.")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")]


@data_app.command("list")
def data_list() -> None:
    """List the datasets, and which of them are prepared or have raw files."""
    from rich.table import Table

    with quick_imports():
        from harness.datasets import catalog

    here = places()
    table = Table("dataset", "status", "what", box=None, pad_edge=False)
    for name in catalog.dataset_names():
        table.add_row(name, catalog.status(name, here.data), catalog.find(name).title)
    plain_console().print(table)


@data_app.command("prepare")
def data_prepare(
    names: Annotated[list[str], typer.Argument(help="Datasets to prepare.")],
    raw: Annotated[Path | None, typer.Option(help="The folder that holds the raw files.")] = None,
    accept_unknown: Annotated[
        bool, typer.Option("--accept-unknown", help="Take raw files whose checksums are not known.")
    ] = False,
    malformed_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of a large dataset: more malformed lines than this share are an error.")
    ] = 0.001,
    address: Annotated[
        str | None, typer.Option(help="Of a large dataset: a Ray cluster's host:port; RAY_ADDRESS works too.")
    ] = None,
) -> None:
    """Turn raw files, downloaded where they can be, into Parquet with a schema."""
    with quick_imports():
        from harness.datasets import catalog

    here = places()
    for name in names:
        catalog.find(name)
    for name in names:
        prepared = catalog.prepare(
            name,
            here.data,
            raw,
            progress=_say,
            accept_unknown=accept_unknown,
            malformed_share=malformed_share,
            address=address,
        )
        splits = ", ".join(f"{split} {size.rows:,}" for split, size in prepared.schema.splits.items())
        print(f"{name}: {splits}; hash {prepared.hash[:12]}; {prepared.folder}")
        for split, known in prepared.schema.splits.items():
            if known.optimum_auc is not None:
                print(f"{name}: best possible AUC of {split}: {known.optimum_auc:.4f}")
        if prepared.schema.note:
            print(f"{name}: note: {prepared.schema.note}")


@data_app.command("synthesize")
def data_synthesize(
    name: Annotated[str, typer.Argument(help="taobao or cikm.")],
    to: Annotated[Path, typer.Option(help="The folder for the files.")],
    rows: Annotated[int | None, typer.Option(help="How many; by default as many as the official file has.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="What the files depend on beside the rows.")] = 0,
    world: Annotated[
        int | None, typer.Option(help="Users, items and categories as of so many rows; by default of all of them.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's host:port; RAY_ADDRESS works too.")] = None,
) -> None:
    """Write generated files in a large dataset's official format, with a click model whose best AUC is known."""
    with quick_imports():
        from harness.datasets.large.synthesis.catalog import synthesize

    about = synthesize(name, to, _say, rows=rows, seed=seed, world_rows=world, address=address)
    print(
        f"{name}: synthetic: {about['rows']:,} rows, {about['users']:,} users, {about['items']:,} items, rate"
        f" {about['rate']:.4f}; best possible AUC {about['planted_auc']:.4f}; {to}"
    )


@data_app.command("verify")
def data_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets; all prepared ones if none.")] = None,
) -> None:
    """Check prepared datasets against their schema: row hashes, counts, known facts."""
    with quick_imports():
        from harness.datasets import catalog

    here = places()
    chosen = names or [name for name in catalog.dataset_names() if catalog.status(name, here.data) == "prepared"]
    problems = []
    for name in chosen:
        found = catalog.verify(name, here.data)
        problems += found
        print(f"{name}: {'ok' if not found else f'{len(found)} problem(s)'}")
    for problem in problems:
        print(problem, file=sys.stderr)
    raise typer.Exit(2 if problems else 0)


@app.command()
def run(
    table: TableName,
    datasets: Datasets = None,
    methods: Methods = None,
    seeds: Seeds = None,
    published: Published = False,
    set_: Overrides = None,
    store: StoreOption = None,
    retry_failed: Retry = False,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's host:port; RAY_ADDRESS works too.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Logical CPUs to use on this machine.")] = None,
    serial: Annotated[bool, typer.Option("--serial", help="One trial after the other in this process.")] = False,
) -> None:
    """Search and repeat what the store lacks of a table, then show it."""
    with quick_imports():
        from harness.running import run_table
        from harness.tablerun import Options

    options = Options(
        table, _joined(datasets), _joined(methods), _joined(seeds), published, tuple(set_ or ()), retry_failed
    )
    here = places(store)
    shown, failures = run_table(options, here, _say, address=address, cpus=cpus, serial=serial)
    _print(shown, Format.text)
    raise typer.Exit(1 if failures else 0)


@app.command()
def plan(
    table: TableName,
    datasets: Datasets = None,
    methods: Methods = None,
    seeds: Seeds = None,
    published: Published = False,
    set_: Overrides = None,
    store: StoreOption = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Logical CPUs to count with.")] = None,
) -> None:
    """Tell what a run would do, and about how long it would take."""
    with quick_imports():
        from harness.running import plan_table
        from harness.tablerun import Options

    options = Options(table, _joined(datasets), _joined(methods), _joined(seeds), published, tuple(set_ or ()))
    plain_console().print(plan_table(options, places(store), _say, cpus=cpus))


@app.command()
def show(
    table: TableName,
    format_: Annotated[Format, typer.Option("--format", help="text, md, csv or latex.")] = Format.text,
) -> None:
    """Show a table: published beside measured, from the trials that its folder keeps."""
    with quick_imports():
        from harness.running import open_table

    _print(open_table(table, places()), format_)


@app.command()
def tensorboard(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables; all that have trials if none.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 6006,
    store: StoreOption = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Write the event files only.")] = False,
) -> None:
    """Write trials, studies and tables for TensorBoard, and serve them on this machine."""
    with quick_imports():
        from harness.browsing import browse

    browse(tuple(tables or ()), places(store), port=port, serve=not no_serve, say=_say)


@app.command()
def doctor(store: StoreOption = None) -> None:
    """Check the environment, Ray, the data, the store and the disk."""
    from harness.doctor import examine

    problems = 0
    for check in examine(places(store)):
        print(f"{'ok  ' if check.good else 'BAD '} {check.what}: {check.finding}")
        problems += not check.good
    raise typer.Exit(2 if problems else 0)


def _joined(texts: list[str] | None) -> str | None:
    """Return what an option that stands several times means: all that it names, none of them dropped."""
    return ",".join(texts) if texts else None


def _print(table: Table, format_: Format) -> None:
    from harness import tables

    if format_ is not Format.text:
        render = {Format.md: tables.to_markdown, Format.csv: tables.to_csv, Format.latex: tables.to_latex}[format_]
        print(render(table), end="")
        return
    console = plain_console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = plain_console(width=WIDTH)
    console.print(tables.to_terminal(table))


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line; an error of ours is one line and its exit code."""
    atexit.register(gc.freeze)  # the interpreter's last search for garbage would take longer than a second
    try:
        app()
    except DiffbenchError as error:
        print(f"diffbench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            _say("diffbench: interrupted; what is finished stays, the same command goes on from there")
        raise
