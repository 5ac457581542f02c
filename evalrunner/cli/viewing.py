"""`evalrun view`: the runs folder in a browser, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options


def view(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Show the runs folder in a browser: history of each suite, runs side by side, reports. Reads only.

    The server listens on 127.0.0.1 and ends with Ctrl-C.
    """
    from evalrunner.view.server import ADDRESS, make_server

    server = make_server(output_dir, port)
    address = f"http://{ADDRESS}:{server.server_port}/"
    typer.echo(f"{address} shows {str(output_dir)!r}; Ctrl-C ends it")
    if not no_open:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        typer.echo("ended", err=True)
    finally:
        server.server_close()
