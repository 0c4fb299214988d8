"""Gemma 3 as it was trained to write text: harrier-oss 270m and 27b. The layers are those of EmbeddingGemma.

It attends to earlier tokens only, unless `is_causal` is false, and the last token is pooled. Its config.json has the
`model_type` of EmbeddingGemma, and what is known of EmbeddingGemma (prompts, dense layers, sizes) is not true of it.

Separate because each model family is one file.
"""

from embergem.models.family import Family, Part

FAMILY = Family(
    title="Gemma 3 decoder",
    checkpoints="harrier-oss 270m, 27b",
    differs="causal sliding windows, last-token pooling, instructions",
    model_types=("gemma3_decoder",),
    part=Part("gemma3_text", "use_bidirectional_attention", (False, None)),
    arithmetic="gemma3_text",
    special_tokens=("opening", "closing"),
    window="sliding_window",
)
