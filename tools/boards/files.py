"""All boards, and their files."""

import json
from pathlib import Path
from typing import Final

from tools.boards import api, host, overview, pipeline, postgresql, redis_server, response, workers
from tools.boards.grafana import dashboard
from tools.boards.model import Board

BOARDS: Final[tuple[Board, ...]] = (
    overview.BOARD,
    api.BOARD,
    postgresql.BOARD,
    redis_server.BOARD,
    workers.BOARD,
    host.BOARD,
    response.BOARD,
    pipeline.BOARD,
)
"""In the order in which each links to the others."""


def contents() -> dict[str, str]:
    """Return what each file of the boards holds, by its name."""
    return {
        f"{board.uid}.json": json.dumps(dashboard(board, BOARDS), indent=2, ensure_ascii=False) + "\n"
        for board in BOARDS
    }


def write(folder: Path) -> list[Path]:
    """Write the boards into a folder, and remove those that are no more; returns their paths."""
    files = contents()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in files]
