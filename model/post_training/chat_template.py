"""The chat format as a template of transformers, for the directory of a fine-tuned model.

`apply_chat_template` fills in the template and encodes the whole text at once. For end of text to
become a token, the tokenizer must read its spelling as the token (`split_special_tokens` false).
But a message may contain that spelling too, and would then end its own turn. The template therefore
puts a word joiner (U+2060, which has no width) after the spelling's first character in messages.
This holds in every client that applies the template.
"""

import json
from pathlib import Path

from common.files import json_bytes
from common.sections import read_json
from model.post_training.chat_format import NAMES

CHAT_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE = f"""\
{{%- set names = {json.dumps(NAMES)} -%}}
{{%- set spelled = eos_token[0] ~ "\\u2060" ~ eos_token[1:] -%}}
{{{{- eos_token -}}}}
{{%- for message in messages -%}}
    {{%- if message.role not in names -%}}
        {{{{- raise_exception("the role of a message is one of {", ".join(NAMES)}") -}}}}
    {{%- endif -%}}
    {{%- if message.content is not string -%}}
        {{{{- raise_exception("the content of a message is one text") -}}}}
    {{%- endif -%}}
    {{{{- names[message.role] ~ ": " ~ (message.content | trim | replace(eos_token, spelled)) -}}}}
    {{{{- eos_token if message.role == "assistant" else "\\n" -}}}}
{{%- endfor -%}}
{{{{- names.assistant ~ ":" if add_generation_prompt else "" -}}}}
"""


def write_chat_tokenizer(directory: Path) -> None:
    """Write the template into a directory with an export's tokenizer.

    Also set split_special_tokens of tokenizer_config.json to false, which the template needs.
    """
    path = directory / "tokenizer_config.json"
    path.write_bytes(json_bytes(read_json(path, dict) | {"split_special_tokens": False}))
    (directory / CHAT_TEMPLATE_FILE).write_text(CHAT_TEMPLATE, encoding="utf-8")
