"""lm-evaluation-harness's own preparation of HellaSwag's text, from the package itself."""

from lm_eval.tasks.hellaswag.utils import process_docs

__all__ = ["process_docs"]
