"""The `conditions` section: for each condition, its own values of four sections.

A condition names all four sections, empty where nothing differs: dvc.yaml declares
`conditions.NAME.pretrain`, and DVC refuses a key that is not there.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from common.sections import Section, param

# Files of plots/figures that show all conditions. A condition of the same name would overwrite one.
RESERVED_NAMES = ("combined", "evidence", "training")
# metrics/comparison.json has keys CONDITION, and CONDITION with each of these.
RESERVED_ENDINGS = ("_difference", "_holm_p")


def _is_free(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(
            f"{name} is taken: plots/figures/{name}.png is a picture of all conditions; choose "
            "another name"
        )
    for ending in RESERVED_ENDINGS:
        if name.endswith(ending):
            raise ValueError(
                f"{name} ends with {ending}, as keys of metrics/comparison.json do; choose "
                "another name"
            )
    return name


# Conditions name directories, pictures and DVC stages.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64), AfterValidator(_is_free)]


class Overrides(Section):
    """A condition's own values, by section and key.

    They are checked when they are in place of the section's values.
    """

    tokenize: dict[str, Any] = param("The condition's own values of `tokenize`.")
    model: dict[str, Any] = param("The condition's own values of `model`.")
    pretrain: dict[str, Any] = param("The condition's own values of `pretrain`.")
    sft: dict[str, Any] = param("The condition's own values of `sft`.")

    @model_validator(mode="before")
    @classmethod
    def _all_stand(cls, value: Any) -> Any:
        missing = (
            [name for name in cls.model_fields if name not in value]
            if isinstance(value, dict)
            else []
        )
        if missing:
            raise ValueError(
                f"add {', '.join(f'{name}: {{}}' for name in missing)}; a condition names all of "
                f"{', '.join(cls.model_fields)}, empty where nothing differs"
            )
        return value
