"""How fast the page of ``mpnn-arch explore`` is: first paint, and the answer to a slider.

    python experiments/benchmarks/explore_page.py --out page.json

Needs Chromium and playwright (``pip install -e ".[explorer,demo,browser]"``). From the start of the
command to the first paint of the waiting page, and to that of the title, the controls and the
round; then, with 64 nodes, from a key on the slider of the average degree until the round on screen
has the new graph's edges. Wall time, and the processor time that the server spent on the same,
since other programs slow only the former.
"""

import argparse
import json
import os
import shutil
import statistics
import time
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from mpnn_arch.diagnostics.timing import machine
from mpnn_arch.explorer import server


def processor_seconds(pid: int) -> float:
    """User and system time of a process, all its threads counted (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(repeats: int) -> dict[str, object]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(300_000)
        expect.set_options(timeout=300_000)
        start = time.perf_counter()
        address, process = server.start(show=False)
        paint = {}
        try:
            page.goto(address, wait_until="commit")
            marks = {
                "waiting page": page.locator('[data-page="starting"]'),
                "title": page.locator("h1:not(header > h1)").first,
                "controls": page.get_by_text("average degree").first,
                "plane": page.get_by_text("this graph: C").first,
                "round": page.locator('[data-fact="edges"]'),
            }
            for name, place in marks.items():
                place.wait_for(state="attached")
                paint[name] = {
                    "wall_s": round(time.perf_counter() - start, 2),
                    "server_processor_s": round(processor_seconds(process.pid), 2),
                }
            edges = marks["round"]

            def answer(slider: int, key: str) -> tuple[float, float]:
                before = edges.inner_text()
                spent, began = processor_seconds(process.pid), time.perf_counter()
                page.get_by_role("slider").nth(slider).press(key)
                expect(edges).not_to_have_text(before)
                return (
                    time.perf_counter() - began,
                    processor_seconds(process.pid) - spent,
                )

            answer(0, "End")  # 64 nodes
            time.sleep(5)  # the plane's sample of graphs of 64 nodes is measured once
            answers = [answer(1, "ArrowRight") for _ in range(repeats)]
        finally:
            process.terminate()
            process.wait()
            browser.close()

    def spread(values: list[float]) -> dict[str, float]:
        return {
            "median_ms": round(1e3 * statistics.median(values)),
            "least_ms": round(1e3 * min(values)),
            "most_ms": round(1e3 * max(values)),
        }

    return {
        "first_paint": paint,
        "slider_at_64_nodes_wall": spread([wall for wall, _ in answers]),
        "slider_at_64_nodes_server_processor": spread([spent for _, spent in answers]),
        "repeats": repeats,
        "load_average": os.getloadavg()[0],
        "machine": machine(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = json.dumps(measure(given.repeats), indent=2)
    print(found)
    if given.out:
        given.out.write_text(found + "\n")
