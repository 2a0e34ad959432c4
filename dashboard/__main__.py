"""`python -m dashboard`: the server of GIF Studio; its settings reach app.py by the environment."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import pkgutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any

from dashboard import settings
from gifcore.errors import GifError
from gifcore.models import plugins

APP = Path(__file__).with_name("app.py")


def main(arguments: list[str] | None = None) -> int:
    """Serve the dashboard until Ctrl-C; return the exit code (1: it cannot start, says why)."""
    options = _parse(arguments)
    problem = _port_problem(options.address, options.port) or _prepare(options.workspace)
    problem = problem or _data_problem(options.data_root) or _take_plugins(options.plugin)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    os.environ[settings.WORKSPACE_VARIABLE] = str(options.workspace.resolve())
    os.environ[settings.DEMO_VARIABLE] = "1" if options.demo else "0"
    os.environ[settings.DATA_VARIABLE] = (
        str(options.data_root.resolve()) if options.data_root else ""
    )
    url = f"http://{_shown(options.address)}:{options.port}"
    print(f"GIF Studio is at {url} (studies in {options.workspace}); Ctrl-C stops it.", flush=True)
    if _has_screen():
        threading.Thread(target=_open_browser, args=(url,), daemon=True).start()
    _serve(options.address, options.port)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gif-dashboard", description="GIF Studio in the browser: start studies, see results."
    )
    parser.add_argument(
        "--workspace", type=Path, default=Path("runs"), help="folder of the studies [%(default)s]"
    )
    parser.add_argument("--port", type=int, default=8501, help="[%(default)s]")
    parser.add_argument("--address", default="127.0.0.1", help="[%(default)s]")
    parser.add_argument(
        "--demo", action="store_true", help="only show records: no uploads, no new studies"
    )
    parser.add_argument(
        "--data-root", type=Path, help="folder whose data and checkpoints visitors may pick [none]"
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="Python module with architectures of your own; may be repeated",
    )
    return parser.parse_args(arguments)


def _port_problem(address: str, port: int) -> str:
    if not 0 < port < 65536:
        return f"Port {port} is not possible: choose one from 1 to 65535."
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        return (
            f"Cannot serve on {address}:{port} ({error.strerror}); choose another port, "
            f"e.g. --port {port + 1 if port < 65535 else 8501}."
        )
    return ""


def _prepare(workspace: Path) -> str:
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"Cannot use the workspace {workspace}: {error.strerror}."
    return ""


def _data_problem(folder: Path | None) -> str:
    if folder is None or folder.is_dir():
        return ""
    return f"There is no folder {folder}; give --data-root a folder that is there."


def _take_plugins(modules: list[str]) -> str:
    """Allow the plugins and list their architectures, in a process of its own: no torch here."""
    try:
        for module in modules:
            plugins.allow(module)
    except GifError as problem:
        return str(problem)
    os.environ[settings.MODELS_VARIABLE] = ""
    if not modules:
        return ""
    command = [sys.executable, "-m", "gifcore", "models"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode:
        return answer.stderr.strip().removeprefix("Error: ")
    listed = [name for name in answer.stdout.splitlines() if plugins.is_plugin(name)]
    os.environ[settings.MODELS_VARIABLE] = ",".join(listed)
    return ""


def _shown(address: str) -> str:
    return "localhost" if address in ("127.0.0.1", "0.0.0.0", "::", "::1") else address


def _has_screen() -> bool:
    return sys.stdout.isatty() and (
        sys.platform in ("darwin", "win32")
        or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )


def _open_browser(url: str) -> None:
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):  # noqa: S310
                break
        except OSError:
            time.sleep(0.2)
    else:
        return
    webbrowser.open(url)


def _serve(address: str, port: int) -> None:
    """Run the app; its own .streamlit/config.toml holds the theme.

    Streamlit looks for that folder beside the file that was started, which is app.py only if we
    say so: an installed `gif-dashboard` is a file in the environment's bin folder.
    """
    import streamlit as st

    from dashboard import views
    from dashboard.components.messages import on_script_error

    for page in pkgutil.iter_modules(views.__path__):  # the first visitor does not wait for them
        with contextlib.suppress(Exception):  # a page that is broken says so when it is opened
            importlib.import_module(f"dashboard.views.{page.name}")
    settle()
    sys.argv = [str(APP)]
    config: dict[str, Any] = {
        "server.port": port,
        "server.address": address,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
    }
    st.App(APP, on_script_error=on_script_error).run(config=config)


def settle() -> None:
    """Take what was imported out of the garbage collector's sight.

    Streamlit collects after every run of a page, and no other viewer's page goes on meanwhile: to
    look through all modules again each time takes longer than most pages do.
    """
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
