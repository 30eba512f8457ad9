"""The text of lm-evaluation-harness's hellaswag, from the package itself."""

from lm_eval.tasks.hellaswag.utils import process_docs

__all__ = ["process_docs"]
