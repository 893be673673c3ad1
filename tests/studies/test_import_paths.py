import hashlib
import os
import sys
from pathlib import Path

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies import import_paths
from mpnn_arch.training.own_data import call_function


@pytest.fixture
def module(tmp_path, monkeypatch):
    file = tmp_path / "a_module_of_ours.py"
    file.write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield file
    sys.modules.pop("a_module_of_ours", None)


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        ("module:thing", True),
        ("package.module:Thing", True),
        ("package.module:Thing.make", True),
        ("module:Thing.", False),
        ("module:.make", False),
        ("package..module:Thing", False),
        ("mlp", False),
        ("complete:64", False),
        ("ws_flex:16,4,0.2", False),
        ("a-b:c", False),
        (":c", False),
        (None, False),
    ],
)
def test_what_is_an_import_path(name, is_path):
    assert import_paths.is_import_path(name) is is_path


def test_the_file_is_found_and_hashed_without_importing_it(module):
    found = import_paths.source_hash("a_module_of_ours:answer")
    assert found == hashlib.sha256(module.read_bytes()).hexdigest()
    assert "a_module_of_ours" not in sys.modules
    assert import_paths.load("a_module_of_ours:answer", found)() == 42


def test_a_dotted_attribute_is_found(module):
    text = "class Digits:\n    @classmethod\n    def load(cls):\n        return cls.__name__\n"
    module.write_text(text)
    found = import_paths.source_hash("a_module_of_ours:Digits.load")
    assert import_paths.load("a_module_of_ours:Digits.load", found)() == "Digits"
    assert call_function("a_module_of_ours:Digits.load") == "Digits"
    for name in ("Digits.save", "Numbers.load"):
        with pytest.raises(InputError, match=f"has no '{name}'"):
            import_paths.load(f"a_module_of_ours:{name}", found)
        with pytest.raises(InputError, match=f"has nothing called '{name}'"):
            call_function(f"a_module_of_ours:{name}")


def test_a_module_of_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "a_module_of_here.py").write_text("answer = 42\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    found = import_paths.source_hash("a_module_of_here:answer")
    assert import_paths.load("a_module_of_here:answer", found) == 42
    assert str(tmp_path) in import_paths.python_path().split(os.pathsep)
    sys.modules.pop("a_module_of_here")


def test_a_file_that_was_changed_or_is_gone_is_refused(module):
    found = import_paths.source_hash("a_module_of_ours:answer")
    with pytest.raises(InputError, match="has no 'question'"):
        import_paths.load("a_module_of_ours:question", found)
    module.write_text("def answer():\n    return 43\n")
    with pytest.raises(InputError, match="was changed"):
        import_paths.load("a_module_of_ours:answer", found)
    with pytest.raises(InputError, match="cannot be found"):
        import_paths.source_hash("a_module_of_nobody:answer")
    with pytest.raises(InputError, match="cannot be found"):
        import_paths.source_hash("__main__:answer")
    with pytest.raises(InputError, match="cannot be found"):
        import_paths.source_hash("sys:exit")


def test_a_signature_holds_for_its_user_study_and_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    sources = {"module:thing": "ab"}
    signature = import_paths.sign("a study", sources)
    assert import_paths.is_signed(signature, "a study", sources)
    assert not import_paths.is_signed(signature, "another", sources)
    assert not import_paths.is_signed(signature, "a study", {"module:thing": "cd"})
    assert not import_paths.is_signed("", "a study", sources)
    key = tmp_path / "mine" / "mpnn_arch" / "key"
    assert os.stat(key).st_mode & 0o077 == 0
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody_elses"))
    assert not import_paths.is_signed(signature, "a study", sources)


def test_a_user_without_a_home_is_told_where_the_key_can_be(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InputError, match="XDG_CONFIG_HOME"):
        import_paths.sign("a study", {"module:thing": "ab"})
