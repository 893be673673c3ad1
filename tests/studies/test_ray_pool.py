"""The pool of Ray actors, on a stand-in for Ray that is slow to answer."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mpnn_arch.studies.ray_pool import RayPool


class SlowRay:
    """No actor ever answers; a call after the end is what would start a cluster."""

    exceptions = SimpleNamespace(RayActorError=ConnectionError, ActorDiedError=ConnectionError)

    def __init__(self) -> None:
        self.ended, self.late = False, 0
        call = SimpleNamespace(remote=lambda *arguments: object())
        self.actor = SimpleNamespace(describe=call, stop=call, train=call)

    def _call(self) -> None:
        self.late += self.ended

    def remote(self, kind: type) -> Any:
        made = SimpleNamespace(remote=lambda: self.actor)
        return SimpleNamespace(options=lambda **options: made)

    def nodes(self) -> list[dict[str, Any]]:
        self._call()
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self._call()
        time.sleep(timeout)
        return [], references

    def kill(self, actor: Any) -> None:
        self._call()


def test_no_thread_calls_ray_after_the_end(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("held")
    ray = SlowRay()
    pool = RayPool(ray, tmp_path, workers=2, threads=1, on_gpu=False)
    pool.start()
    pool.start()
    time.sleep(0.2)  # both listen
    pool.close()
    ray.ended = True
    time.sleep(1.0)
    assert not ray.late
