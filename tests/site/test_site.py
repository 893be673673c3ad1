"""The documentation site builds without a warning, and every link in it leads somewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="the extra docs is not installed")
pytest.importorskip("myst_nb", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "notebooks"
sys.path.insert(0, str(PAGES / "_ext"))
from public import exporters, homes  # noqa: E402

pytestmark = [pytest.mark.docs, pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(PAGES), str(out)],
        env=os.environ | {"MPNN_ARCH_QUICK": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Links(HTMLParser):
    """What a page links to, what it loads, its anchors, and what it says of its pictures."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loads, self.anchors, self.pictures = [], [], set(), []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors.update(given[name] for name in ("id", "name") if given.get(name))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append(given.get("alt") or "")
        if tag in ("img", "script", "iframe", "source") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(given["href"])


def test_every_link_inside_the_site_leads_somewhere(site):
    read = {page: Links(page) for page in site.rglob("*.html")}
    assert len(read) > 20
    broken = []
    for page, found in read.items():
        for link in found.links + found.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchors = read[target].anchors if target in read else None
            # Sphinx's own pages have links to anchors that their scripts add.
            ok = target.exists() and (
                not parts.fragment or anchors is None or unquote(parts.fragment) in anchors | {""}
            )
            if not ok:
                broken.append((str(page.relative_to(site)), link))
    assert not broken


def test_every_lesson_has_its_pictures_and_says_what_they_are(site):
    for page in sorted(site.glob("0*.html")):
        pictures = Links(page).pictures
        assert len(pictures) > 2, page.name  # its thumbnail, the widget, and a plot
        assert not [alt for alt in pictures if not alt or alt.endswith(".png")], page.name
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"&lt;\w+ size \d+x\d+ with", text), page.name


def test_a_page_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loads = Links(page).loads
        assert not [link for link in loads if link.startswith(("http:", "https:", "//"))], page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.findall(r"@import|url\(['\"]?(?:https?:)?//", text), style


@pytest.mark.browser
@pytest.mark.parametrize("name", ["models.html", "api/gnn.html"])
def test_keys_and_readers_reach_a_page_on_a_phone(site, name, browser, serious_faults):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((site / name).as_uri())
    assert page.locator("pre[tabindex='0']").count()
    assert serious_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


def test_every_public_name_is_described_once(site):
    text = "\n".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    for name in homes():
        assert len(re.findall(rf' id="{re.escape(name)}"', text)) == 1, name


def test_every_exporting_package_has_its_place():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (PAGES / "api").glob("*.md"))
    placed = re.findall(r"\{public-names\} (\S+)", pages)
    # What exports modules alone has no names to describe.
    assert sorted(placed) == sorted(set(exporters()) - {"mpnn_arch.models.architectures"})


def test_every_command_and_every_recipe_is_there(site):
    from mpnn_arch.cli import COMMANDS
    from mpnn_arch.training.recipes import RECIPES

    commands = (site / "commands.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f'id="mpnn-arch-{command}"' in commands
    recipes = (site / "recipes.html").read_text(encoding="utf-8")
    for name in RECIPES:
        assert f">{name}<" in recipes


def test_every_page_and_lesson_is_built_and_lessons_show_their_outputs(site):
    for page in [*PAGES.glob("*.md"), *PAGES.glob("*.ipynb")]:
        built = site / f"{page.stem}.html"
        assert built.exists(), page.name
        if page.suffix == ".ipynb":
            assert "cell_output" in built.read_text(encoding="utf-8"), page.name
