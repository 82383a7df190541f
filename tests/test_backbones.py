"""Finding a backbone: folders, hub names, content hashes, configurations."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from safetensors.torch import load_file, save_file

import adapt
from adapt import options
from adapt.adapted import assemble
from adapt.backbones import EMBEDDED, Loader, resolve, source
from adapt.data import Data
from adapt.memory.shapes import shape_of
from adapt.spec import AdaptError, OptionError


def test_a_backbone_is_named_by_its_folder_and_hashed_by_its_content(
    backbone: Callable[..., Path], copy: Path, tmp_path: Path
) -> None:
    original, same = resolve(backbone("bert")), resolve(copy)
    assert (original.source.name, same.source.name) == ("bert-2-0", "copy")
    assert same.source.sha256 == original.source.sha256
    assert len(same.source.sha256) == 64
    assert str(tmp_path) not in json.dumps(dataclasses.asdict(same.source))
    assert same.model_type == "bert"
    (copy / "README.md").write_text("words", encoding="utf-8")
    assert resolve(copy).source.sha256 == original.source.sha256


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "source.spm"]
)
def test_the_hash_sees_every_file_that_decides_what_it_computes(copy: Path, name: str) -> None:
    file = copy / name
    if not file.exists():
        file.write_bytes(b"")
    before = resolve(copy).source.sha256
    file.write_bytes(file.read_bytes() + b" ")
    assert resolve(copy).source.sha256 != before


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["config.json"], "has no config.json"),
        (["model.safetensors"], r"has no weights \(\*\.safetensors\)"),
        (["tokenizer.json", "tokenizer_config.json"], r"has no tokenizer .*save_pretrained"),
    ],
)
def test_a_folder_that_is_not_whole_says_what_is_missing(copy: Path, missing: list[str], message: str) -> None:
    for name in missing:
        (copy / name).unlink()
    with pytest.raises(AdaptError, match=message):
        resolve(copy)


def test_an_adapter_is_neither_a_backbone_nor_a_part_of_one(copy: Path) -> None:
    """transformers would load it with the weights that it lies beside."""
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}', encoding="utf-8")
    with pytest.raises(AdaptError, match=r"has an adapter of PEFT beside its weights .*merge_and_unload.*or move its"):
        resolve(copy)
    (copy / "config.json").unlink()
    with pytest.raises(AdaptError, match=r"has no config\.json: it is an adapter of PEFT for some/base\. Merge the tw"):
        resolve(copy)


def test_weights_of_other_kinds_are_not_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(AdaptError, match=r"pytorch_model\.bin, which may run code when read; convert it"):
        resolve(copy)


def test_what_is_not_a_backbone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(OptionError, match="is a file; give the folder"):
        resolve(file)
    with pytest.raises(OptionError, match="does not exist"):
        resolve(tmp_path / "nowhere")
    with pytest.raises(OptionError, match=f"neither a local folder nor.*'{EMBEDDED}'"):
        resolve("no-such/model")


def test_the_shipped_encoder_loads(task_data: Callable[[str], Data]) -> None:
    run, _, source = assemble(EMBEDDED, task_data("single_label"), "full", device="cpu", precision="fp32")
    assert source.source.name == EMBEDDED
    size = sum(file.stat().st_size for file in source.path.iterdir())
    assert size <= 4 * 2**20
    assert Loader(source, run.task, run.budget, 0)()


def test_the_configuration_is_read_once_and_stays_as_it_is(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = tiny.loader_for(backbone("bert"), "sequence_classification", dropout=0.0)
    expected = source.read_config(backbone("bert"), "bert").to_dict()
    read, found = source.read_config, []
    monkeypatch.setattr(source, "read_config", lambda *given: found.append(given) or read(*given))
    for _ in range(2):
        assert len(load().config.id2label) == 3
    assert len(found) == 1
    assert load.backbone.pretrained_config.to_dict() == expected


def test_a_sentence_encoder_is_pooled_by_the_mean(copy: Path, task_data: Callable[[str], Data]) -> None:
    data = task_data("single_label")
    assert options.task_of(data, resolve(copy)).pooling == "native"
    (copy / "1_Pooling").mkdir()
    config = copy / "1_Pooling" / "config.json"
    config.write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    assert options.task_of(data, resolve(copy)).pooling == "mean"
    assert options.task_of(data, resolve(copy), pooling="native").pooling == "native"
    for other in ('{"pooling_mode_cls_token": true}', '{"pooling_mode": "cls"}', '{"pooling_mode": ["cls", "max"]}'):
        config.write_text(other, encoding="utf-8")
        assert options.task_of(data, resolve(copy)).pooling == "native"
    for mean in ('{"pooling_mode": "mean"}', '{"pooling_mode": ["cls", "mean"]}'):  # since sentence-transformers 5.4
        config.write_text(mean, encoding="utf-8")
        assert options.task_of(data, resolve(copy)).pooling == "mean"


def test_what_is_written_below_a_backbone_does_not_change_it(copy: Path) -> None:
    before = resolve(copy).source.sha256
    for name in ("runs", "model", "checkpoint-500"):
        (copy / name).mkdir()
        (copy / name / "adapt.json").write_text("{}")
        (copy / name / "trainable.safetensors").write_bytes(b"")
    for name in ("trainer_state.json", "all_results.json", "eval_results.json"):  # which transformers leaves there
        (copy / name).write_text("{}")
    (copy / "consolidated.safetensors").write_bytes(b"")  # the same weights in another form
    assert resolve(copy).source.sha256 == before
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert resolve(copy).source.sha256 != before


def test_weights_that_an_index_names_elsewhere_are_part_of_the_backbone(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    one = min(tensors)
    (copy / "model.safetensors").unlink()
    with pytest.raises(AdaptError, match=r"has no weights \(\*\.safetensors\)"):
        resolve(copy)
    parts = {"parts/1.safetensors": {one}, "parts/2.safetensors": tensors.keys() - {one}}
    (copy / "parts").mkdir()
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, copy / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    before = resolve(copy)
    assert before.weight_bytes == sum((copy / file).stat().st_size for file in parts)
    assert shape_of(copy).weights == tensors.keys()
    assert tiny.loader_for(copy, "sequence_classification")() is not None
    save_file({one: tensors[one] + 1}, copy / "parts/1.safetensors", metadata={"format": "pt"})
    assert resolve(copy).source.sha256 != before.source.sha256
    (copy / "model.safetensors.index.json").write_text("{", encoding="utf-8")
    with pytest.raises(AdaptError, match=r"model\.safetensors\.index\.json cannot be read"):
        resolve(copy)
    assert shape_of(copy).weights == frozenset()


@pytest.mark.parametrize("find", [resolve, shape_of])
def test_a_folder_that_may_not_be_read_is_told_of(
    copy: Path, find: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(file: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(AdaptError, match=rf"Backbone {copy} cannot be read .* denied: '.*config.json'\); see to its"):
        find(copy)


@pytest.mark.parametrize("find", [resolve, shape_of])
def test_a_saved_model_is_no_backbone_and_names_its_own(tmp_path: Path, find: Callable[[Path], Any]) -> None:
    (tmp_path / "adapt.json").write_text('{"reference": "minilm"}', encoding="utf-8")
    message = f"{tmp_path} .*is a saved model, whose backbone is minilm. Give that, or .*`adapt merge {tmp_path} --out"
    with pytest.raises(AdaptError, match=message):
        find(tmp_path)
    (tmp_path / "adapt.json").write_text("{", encoding="utf-8")
    with pytest.raises(AdaptError, match=r"adapt\.json cannot be read"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("config.json", '{"model_type": "be', "cannot be read"), ("config.json", "[]", "is no JSON object"),
     ("1_Pooling/config.json", "{", "cannot be read")],
)  # fmt: skip
def test_a_damaged_configuration_is_named(
    copy: Path, task_data: Callable[[str], Data], name: str, text: str, message: str
) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text(text)
    with pytest.raises(AdaptError, match=f"{name} {message}"):
        assemble(copy, task_data("single_label"), "lora", device="cpu")


def test_what_is_fetched_from_the_hub(
    monkeypatch: pytest.MonkeyPatch, backbone: Callable[..., Path], copy: Path
) -> None:
    from huggingface_hub.utils import filter_repo_objects

    wanted = {
        "config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json",
        "vocab.txt", "bpe.codes", "tokenizer.model", "chat_template.jinja", "1_Pooling/config.json",
    }  # fmt: skip
    others = {
        "pytorch_model.bin",
        "original/params.json",
        "metal/model.safetensors",
        "consolidated.safetensors",
        "a.py",
    }
    found: set[str] = set()

    def snapshot_download(name: str, revision: str | None, **patterns: Any) -> str:
        found.update(filter_repo_objects(sorted(wanted | others), **patterns))
        return str(backbone("bert"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve("somebody/model").path == backbone("bert")
    assert found == wanted
    (copy / "model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(copy))
    with pytest.raises(
        AdaptError, match=r"has no weights .* Give a revision that has them \(NAME@refs/pr/N, .*save_pre"
    ):
        resolve("somebody/model")


def test_a_revision_on_the_hub_stands_after_the_name(
    monkeypatch: pytest.MonkeyPatch, backbone: Callable[..., Path], copy: Path
) -> None:
    asked: list[tuple[str, str | None]] = []
    plain = backbone("bert")

    def snapshot_download(name: str, revision: str | None, **_: Any) -> str:
        asked.append((name, revision))
        return str(plain if revision is None else copy)

    def hf_hub_download(name: str, file: str, *, revision: str | None) -> str:
        asked.append((name, revision))
        return str(plain / file)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    (copy / "added.txt").write_text("as another revision has it")
    newest, other = resolve("somebody/model"), resolve("somebody/model@refs/pr/1")
    assert asked == [("somebody/model", None), ("somebody/model", "refs/pr/1")]
    assert newest.source.sha256 != other.source.sha256
    assert other.source.name == other.reference == "somebody/model@refs/pr/1", "a saved model finds it again"
    assert shape_of("somebody/model@v2").name == "somebody/model@v2"
    assert asked[2:] == [("somebody/model", "v2")] * 2
    marked = copy.rename(copy.parent / "model@v2")
    assert resolve(marked).source.name == "model@v2", "a folder goes before"
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with pytest.raises(OptionError, match="Backbone 'one@two' is neither a local folder"):
        resolve("one@two")


@pytest.mark.parametrize("given", ["somebody/model", "somebody/model@main"])
def test_a_saved_model_finds_the_version_that_it_was_made_on(
    monkeypatch: pytest.MonkeyPatch, backbone: Callable[..., Path], tmp_path: Path, given: str
) -> None:
    """Whatever the hub's newest is by then."""
    versions = {letter * 40: tmp_path / (letter * 40) for letter in "ab"}
    for folder in versions.values():
        shutil.copytree(backbone("bert"), folder)
    (tmp_path / ("b" * 40) / "LICENSE.txt").write_text("added")
    newest = ["a" * 40]

    def snapshot_download(name: str, revision: str | None, **_: Any) -> str:
        assert name == "somebody/model"
        return str(versions.get(revision or "", versions[newest[0]]))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    choices: dict[str, Any] = {"epochs": 1, "max_steps": 1, "device": "cpu", "precision": "fp32", "progress": False}
    model = adapt.fit(given, tiny.classification(), adapt.LoRA(rank=2), **choices)
    saved = model.save(tmp_path / "saved")
    newest[0] = "b" * 40
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=r"would be taken for the somebody/model.* of the hub from then on; give"):
        model.save(given)
    assert not (tmp_path / "somebody").exists()
    assert json.loads((saved / "adapt.json").read_text())["reference"] == f"somebody/model@{'a' * 40}"
    assert json.loads((saved / "peft" / "adapter_config.json").read_text())["revision"] == "a" * 40
    loaded = adapt.load(saved)
    assert loaded.run == model.run
    assert loaded.backbone.hub_name == "somebody/model"
    again = json.loads((loaded.save(tmp_path / "again") / "adapt.json").read_text())
    assert again["reference"] == f"somebody/model@{'a' * 40}"
    with pytest.raises(AdaptError, match="is not the one that the model in"):
        adapt.load(saved, backbone="somebody/model")
    for act in (loaded.save, loaded.merge):
        with pytest.raises(OptionError, match="would be taken for the somebody/model of the hub"):
            act("somebody/model")
    with pytest.raises(OptionError, match="would be taken for the somebody/other of the hub"):
        adapt.compare("somebody/other@main", tiny.classification(), out=tmp_path / "somebody/other")
    runs = [adapt.fit(None, tiny.classification(), start=start, **choices).run for start in (saved, model, loaded)]
    assert len({run.key() for run in runs}) == 1
    assert runs[0].backbone.name == "somebody/model"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Exception("401 Client Error. (Request ID: Root=1-ab)\n\nCannot access gated repo for url x.\nVisit x to ask."),
         r"\(Exception: 401 Client Error. Cannot access gated repo for url x. Visit x to ask\)"),
        (AssertionError(), r"\(AssertionError\)\. Give"),
    ],
)  # fmt: skip
def test_what_the_hub_says_is_said(monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fails)
    for asked in (resolve, shape_of):
        with pytest.raises(OptionError, match=told):
            asked("somebody/gated")
