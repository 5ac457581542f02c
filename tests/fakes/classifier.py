"""A tiny transformers text classifier, created and saved by the test. Nothing is downloaded; scores differ by text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "a",
    "you",
    "are",
    "i",
    "is",
    "it",
    "and",
    "not",
    "do",
    "think",
    "what",
    "how",
    "very",
    "good",
    "bad",
    "kind",
    "stupid",
    "idiot",
    "hate",
    "love",
    "rain",
    "day",
    "night",
]
MAX_TOKENS = 24  # input limit of the model


def save_classifier(
    folder: Path, *, seed: int = 0, labels: tuple[str, ...] = ("nothate", "hate"), **config: Any
) -> Path:
    """Save a two-layer BERT with seeded weights, large enough for distinct scores; the folder comes back."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: place for place, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(seed)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=MAX_TOKENS, initializer_range=0.6,
            id2label=dict(enumerate(labels)), label2id={label: place for place, label in enumerate(labels)}, **config,
        )
    )  # fmt: skip
    model.eval().save_pretrained(folder)
    return folder
