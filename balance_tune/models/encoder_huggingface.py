"""A text model from a local Hugging Face folder, fine-tuned as an encoder; needs the package `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.models.encoder_text import PADDING
from balance_tune.models.encoders import Encoder


class HuggingFace(Encoder):
    """A model such as BERT from a folder with config.json and safetensors weights; features are its first token's.

    Token ids are that model's own, 0 where there is padding. Nothing is downloaded and no code in the folder is run.
    A trained model is loaded from its own weights, but the folder's config.json must still be there.

    Args:
        folder: the local folder.
        freeze: how many of the model's parts stay as they are: `none`, or `embeddings`.
    """

    name = "huggingface"
    needs = ("transformers",)
    axes = (("tokens",),)

    def __init__(self, shape: Sequence[int], folder: str = "", freeze: str = "none") -> None:
        super().__init__(shape)
        if freeze not in ("none", "embeddings"):
            raise UserError(f"`freeze` must be none or embeddings for encoder huggingface, but got {freeze!r}.")
        if not folder or not (Path(folder) / "config.json").is_file():
            raise UserError(f"`folder` must hold a model's config.json for encoder huggingface, but got {folder!r}.")
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise UserError(
                "encoder huggingface needs the package transformers, which is not installed; "
                "`pip install 'balance_tune[text]'`."
            ) from error
        try:
            self.model = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except Exception as error:  # whatever lies in the folder; its reader raises what it meets
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise UserError(f"`folder` must hold a model of transformers, but {folder} does not ({reason}).") from error
        if freeze == "embeddings":
            self.model.get_input_embeddings().requires_grad_(False)
        self.features = int(self.model.config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        ids = x.long()
        mask = (ids != PADDING).long()
        mask[:, 0] = 1  # a silenced text is padding alone, and attention needs something to see
        out: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        return out
