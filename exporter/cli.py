"""The command `tracekeep`: serve a data directory, run the demo, write the dashboards. Needs the extra `serve`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ..grafana.make.writing import write
from ..storage import TracekeepError
from ..storage.settings import resolve_settings
from .serve import serve

_DataDir = Annotated[
    str | None, typer.Option(help="Data directory; by default $TRACEKEEP_DATA_DIR or ./tracekeep-data.")
]
_Host = Annotated[str, typer.Option(help="Address to listen on.")]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")]


def create_command(run_demo: Callable[..., None]) -> typer.Typer:
    """The command. The demo is given, as it uses rooms that this one must not import."""
    command = typer.Typer(
        help="Durable observability for Python services, with nothing else to run.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    command.callback(invoke_without_command=True)(_root)
    command.command("serve")(_serve)
    command.command("demo")(_demo_with(run_demo))
    command.command("dashboards")(_dashboards)
    return command


def _root(
    context: typer.Context,
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        typer.echo(f"tracekeep {version('tracekeep')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _serve(data_dir: _DataDir = None, host: _Host = "127.0.0.1", port: _Port = 9464) -> None:
    """Serve a data directory: /metrics, /monitoring, /health.

    Takes the writer's work over from the applications that record into the directory.
    """
    _told(lambda: serve(data_dir, host, port))


def _dashboards(out: Annotated[Path, typer.Option(help="Folder to write to; made where it is missing.")]) -> None:
    """Write dashboards, provisioning and rules for Grafana and Prometheus.

    Names, labels, buckets and limits are those of the settings in the environment: give it that of the services.
    """
    _told(lambda: typer.echo(f"{len(write(out, resolve_settings({})))} files in {out}"))


def _demo_with(run_demo: Callable[..., None]) -> Callable[..., None]:
    def demo(
        host: _Host = "127.0.0.1",
        port: _Port = 8000,
        data_dir: Annotated[str, typer.Option(help="Data directory.")] = "tracekeep-demo-data",
        workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
        rate: Annotated[float, typer.Option(min=0, max=10_000, help="Requests a second; 0 for none.")] = 50.0,
    ) -> None:
        """Run a small shop with tracekeep embedded, under load that it makes itself."""
        _told(lambda: run_demo(host=host, port=port, data_dir=data_dir, workers=workers, rate=rate))

    return demo


def _told(action: Callable[[], None]) -> None:
    """Run an action; what the user can mend is told in a line, with exit code 2."""
    try:
        action()
    except TracekeepError as error:
        typer.echo(f"tracekeep: {error}", err=True)
        raise typer.Exit(2) from None
