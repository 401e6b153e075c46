"""Text: padding is not attended to, a text of padding alone is a text."""

from pathlib import Path

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.models.encoder_huggingface import HuggingFace
from balance_tune.models.encoder_text import Text

SMALL = {"vocabulary": 20, "width": 8, "heads": 2, "layers": 2}


@pytest.fixture
def text() -> Text:
    torch.manual_seed(0)
    return Text((6,), **SMALL).eval()


def test_padding_is_not_seen(text: Text) -> None:
    torch.manual_seed(0)
    longer = Text((9,), **SMALL).eval()
    longer.load_state_dict({n: p if n != "position" else longer.position for n, p in text.state_dict().items()})
    with torch.no_grad():
        longer.position[:7] = text.position
    ids = torch.tensor([[3, 4, 5, 0, 0, 0], [1, 2, 3, 4, 5, 6]], dtype=torch.int32)
    padded = torch.nn.functional.pad(ids, (0, 3))
    torch.testing.assert_close(text(ids), longer(padded), rtol=1e-5, atol=1e-6)


def test_a_silenced_text_and_unknown_words_have_features(text: Text) -> None:
    found = text(torch.tensor([[0] * 6, [99] * 6]))
    assert found.shape == (2, text.features)
    assert found.isfinite().all()
    assert torch.equal(text(torch.tensor([[99] * 6])), text(torch.tensor([[19] * 6])))


def test_ids_may_come_as_numbers_of_any_kind(text: Text) -> None:
    ids = torch.tensor([[3, 4, 5, 0, 0, 0]])
    assert torch.equal(text(ids.to(torch.int32)), text(ids.float()))


def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`folder` must hold a model's config\.json for encoder huggingface"):
        HuggingFace((6,), folder=str(tmp_path))
    with pytest.raises(UserError, match="`freeze` must be none or embeddings"):
        HuggingFace((6,), folder=str(tmp_path), freeze="all")


def test_without_transformers_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs the package transformers, which is not installed; `pip install"):
        HuggingFace((6,), folder=str(tmp_path))


@pytest.mark.full  # its import takes seconds
def test_a_local_bert_is_an_encoder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `text` is not installed")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    encoder = HuggingFace((6,), folder=str(tmp_path), freeze="embeddings").eval()
    found = encoder(torch.tensor([[3, 4, 5, 0, 0, 0], [0] * 6], dtype=torch.int32))
    assert found.shape == (2, encoder.features) == (2, 8)
    assert found.isfinite().all()
