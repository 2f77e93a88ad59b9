"""Write the boards: `python -m tools.boards` makes `grafana/dashboards/` anew."""

import sys
from pathlib import Path

from tools.boards.files import write

if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in write(Path(__file__).parents[2] / "grafana/dashboards"))
