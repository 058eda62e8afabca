"""An AWS on loopback: moto's server, which gives all its databases one id, taught to tell them apart.

Run as `python -m tests.infra.aws_emulator PORT`.
"""

import sys
from itertools import count
from typing import Any

from moto.rds.models import DBInstance
from moto.server import main

IDS = count(1)
make = DBInstance.__init__


def make_with_its_own_id(self: DBInstance, *arguments: Any, **settings: Any) -> None:
    make(self, *arguments, **settings)
    self.dbi_resource_id = f"db-EMULATED{next(IDS):016d}"


if __name__ == "__main__":
    DBInstance.__init__ = make_with_its_own_id  # type: ignore[method-assign]
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
