"""The README.md of an export: the network, its origin, and how to load it.

It has no time stamps and no paths, so that one checkpoint always gives the same bytes.
"""

from model.export.gate import Parity
from model.network.checkpoints import CheckpointConfig

_TEMPLATE = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, {condition}]
---

# GPT-2 ablation: {condition}, seed {seed}, step {step}

A GPT-2 network of {layers} layers, {heads} heads and width {width} ({parameters:,} parameters), \
context {context}, vocabulary
{vocab_size}, after {tokens:,} training tokens. {own}

{tokenizer}

Exported from the checkpoint whose weights have SHA-256 `{sha256}`. Reloaded from disk by
transformers, its logits on {parity_tokens:,} validation tokens differ from the checkpoint's by \
at most
{difference:.1e}.

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
prompt = torch.tensor([[tokenizer.eos_token_id, *tokenizer.encode("Water is made of")]])
output = model.generate(
    prompt,
    attention_mask=torch.ones_like(prompt),
    max_new_tokens=24,
    do_sample=False,
    pad_token_id=tokenizer.eos_token_id,
)
print(tokenizer.decode(output[0]))
```

A document begins with end of text in training, so the prompt does.

The tokenizer reads the spelling `<|endoftext|>` in a text as text; \
use `tokenizer.eos_token_id` for the token.
Loaded by the `tokenizers` library it does so only with `encode_special_tokens = True`.
"""
_FACTS = """The 45 ids after end of text stand for the facts a × b = c with 1 ≤ a ≤ b ≤ 9,
named `<MUL_a_b_c>`. In training they stood for expressions such as `6 × 9` or `9 * 6 = 54`; \
the tokenizer reads those as text,
so a prompt that is to have such a token has to be given its id."""
_NO_FACTS = "The ids after end of text are reserved and never produced by the tokenizer."


def model_card(
    checkpoint: CheckpointConfig,
    sha256: str,
    parameters: int,
    mul_facts: bool,
    own: list[str],
    parity: Parity,
) -> str:
    """Return the text of README.md.

    `sha256` is that of the checkpoint's weights, and `own` are the condition's overrides.
    """
    return _TEMPLATE.format(
        condition=checkpoint.condition,
        seed=checkpoint.seed,
        step=checkpoint.step,
        tokens=checkpoint.tokens,
        parameters=parameters,
        own=(
            f"In place of params.yaml's values this condition has {', '.join(own)}."
            if own
            else "This condition has the values of params.yaml and none in their place."
        ),
        sha256=sha256,
        tokenizer=_FACTS if mul_facts else _NO_FACTS,
        parity_tokens=parity.tokens,
        difference=parity.max_abs_logit_difference,
        **checkpoint.network.model_dump(),
    )
