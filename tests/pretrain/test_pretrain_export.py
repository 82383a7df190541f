"""Writing a pretrained model, which transformers loads."""

import pytest
import torch
from pretrain_helpers import SETTINGS, quiet, tiny
from transformers import AutoModelForMaskedLM, AutoTokenizer

from adapt.pretrain import MaskedLM, Pretraining, export, exportable, pretrain
from adapt.spec import OptionError


def test_export_is_loaded_by_transformers(tokenizer, rows, tmp_path):
    model, folder = tiny(tokenizer), tmp_path / "encoder"
    config, state = model.config.to_dict(), torch.get_rng_state()
    export(model, tokenizer, folder)
    assert model.config.to_dict() == config
    assert torch.equal(torch.get_rng_state(), state)
    (folder / "README.md").write_text("# kept")
    model.cls.predictions.bias.data.fill_(0.5)
    export(model, tokenizer, folder, held_out={"loss": 1.5})
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
    assert (folder / "README.md").read_text() == "# kept"
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert next(model.parameters()).dtype == torch.float32  # the model itself is left alone
    loaded = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    assert loaded.config.pretraining == {"held_out": {"loss": 1.5}}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0.01, atol=1e-6)
    assert AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"] == tokenizer("the cat")["input_ids"]


def test_export_replaces_a_model_and_nothing_else(tokenizer, rows, tmp_path):
    model, folder = tiny(tokenizer), tmp_path / "models"
    (folder / "other").mkdir(parents=True)
    (folder / "other" / "model.safetensors").write_bytes(b"dear")
    with pytest.raises(OptionError, match="models holds more than a model"):
        export(model, tokenizer, folder)
    assert (folder / "other" / "model.safetensors").read_bytes() == b"dear"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("config.json", "adapter_config.json"):
        (adapter / name).write_text("{}")
    with pytest.raises(OptionError, match="adapter holds an adapter of PEFT, which a new model would be loaded with"):
        export(model, tokenizer, adapter)
    kept = tmp_path / "kept"
    export(model, tokenizer, kept)
    kept.rename(tmp_path / ".kept.old")  # ended between the last two steps
    export(model, tokenizer, kept)
    assert [path.name for path in tmp_path.glob("*kept*")] == ["kept"]


def test_export_to_a_full_disk_leaves_what_was_there(tokenizer, rows, tmp_path, monkeypatch):
    model, folder = tiny(tokenizer), tmp_path / "model"
    export(model, tokenizer, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*given, **rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", full)
    with pytest.raises(OptionError, match=r"model cannot be written: No space left on device; free some space"):
        export(model, tokenizer, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_export_keeps_what_is_no_part_of_a_model(tokenizer, rows, tmp_path):
    model, folder = tiny(tokenizer), tmp_path / "model"
    export(model, tokenizer, folder)
    settings = Pretraining(**{**vars(SETTINGS), "steps": 2, "checkpoint_every": 1})
    state = folder / "state.safetensors"
    (folder / "notes.txt").write_text("dear")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"of an older model")

    def report(line: str) -> None:
        export(model, tokenizer, folder)

    pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, state, report)
    assert (folder / "notes.txt").read_text() == "dear"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "notes.txt", "state.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert len(pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, state, quiet)) == 2


def test_export_goes_where_a_link_leads(tokenizer, tmp_path, monkeypatch):
    model, link = tiny(tokenizer), tmp_path / "link"
    (tmp_path / "disk").mkdir()
    link.symlink_to(tmp_path / "disk")
    for _ in range(2):
        export(model, tokenizer, link)
    assert link.is_symlink()
    assert (tmp_path / "disk" / "config.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
    monkeypatch.chdir(link)
    with pytest.raises(OptionError, match="disk is the working directory, which cannot be replaced; give another"):
        exportable(".")


@pytest.mark.parametrize("name", ["state", "model-32.safetensors"])
@pytest.mark.parametrize("there", [False, True])
def test_export_keeps_a_checkpoint_whatever_its_name(tokenizer, rows, tmp_path, name, there):
    """Also in a folder that holds nothing else yet."""
    model, folder = tiny(tokenizer), tmp_path / "model"
    if there:
        export(model, tokenizer, folder)
    settings = Pretraining(**{**vars(SETTINGS), "steps": 2, "checkpoint_every": 1})
    reported = []

    def report(line: str) -> None:
        export(model, tokenizer, folder)
        reported.append(line)

    pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, folder / name, report)
    assert reported
    assert (folder / name).exists()
    assert exportable(folder) == folder.resolve()
    assert len(pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, folder / name, quiet)) == 2
