"""Only operators that somebody has looked at compute: those that numpy replaces, and torch's own
that had the same bytes on all processors.
"""

import json
import subprocess
import sys

import pytest
from gpt2_directories import save_gpt2
from portable_kernels import environment
from repository import REPOSITORY

from model.numerics import portable

REVIEWED = {
    # numpy's, and attention
    *("addmm", "addmm_", "bmm", "exp", "log", "mm", "pow", "sqrt", "tanh"),
    *("_scaled_dot_product_flash_attention_for_cpu",),
    *("_scaled_dot_product_flash_attention_for_cpu_backward",),
    # torch's own arithmetic, in one thread
    *("_foreach_add_", "_foreach_mul_", "_foreach_norm", "_fused_adamw_", "add", "add_", "clamp"),
    *("cumsum", "div", "exp2_", "linalg_vector_norm", "mean", "mul", "mul_", "reciprocal", "rsub"),
    *("sigmoid_", "sub", "sum", "tanh_backward"),
    *("_log_softmax", "_log_softmax_backward_data", "_softmax", "native_layer_norm"),
    *("native_layer_norm_backward", "nll_loss_backward", "nll_loss_forward"),
    *("embedding", "embedding_dense_backward", "index_add_"),
    *("lerp", "lerp_"),  # Muon's
    # random numbers of torch's own generator
    *("normal_", "rand", "random_", "randperm", "uniform_"),
    # comparisons, and moving numbers
    *("__and__", "_local_scalar_dense", "all", "aminmax", "argmax", "bitwise_and", "eq", "gt"),
    *("is_nonzero", "le", "lt", "max", "ne", "sort", "tril", "where"),
    *("_to_copy", "_unsafe_view", "alias", "arange", "cat", "clone", "copy_", "detach", "empty"),
    *("empty_like", "expand", "fill_", "gather", "index", "index_put", "lift_fresh", "new_ones"),
    *("new_zeros", "ones_like", "permute", "scalar_tensor", "select", "set_", "slice"),
    *("slice_backward", "split", "stack", "t", "transpose", "unbind", "unsqueeze", "view", "zero_"),
    *("zeros", "zeros_like"),
    # scoring's. Inference mode shows composite operators in place of those that they call.
    *("baddbmm", "full", "ge", "index_select", "layer_norm", "linear", "log_softmax"),
    *("masked_fill_", "neg", "repeat_interleave", "resolve_conj", "resolve_neg", "softmax", "to"),
    *("triu_",),
    # the profiler's marks
    *("_record_function_enter_new", "_record_function_exit"),
}


@pytest.mark.slow("a process computes tiny work of all stages", minutes=1)
def test_stages_call_only_reviewed_operators(tmp_path, tokenizer):
    save_gpt2(tmp_path / "gpt2", tokenizer, layers=2, heads=2, width=32, context=64)
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tests/helpers/portable_work.py", tmp_path, "operators"],
        cwd=REPOSITORY,
        env=environment(
            PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests/helpers'}", PIPELINE_THREADS="1"
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    called = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"mm", "addmm", "log", "_fused_adamw_", "native_layer_norm_backward"} <= called
    assert "baddbmm" in called  # in a thread of the scorer
    new = sorted(called - REVIEWED)
    assert not new, (
        f"{new} compute in a stage for the first time: see that tests/long/test_portable.py has "
        "them compute the same bytes under emulated processors, then add them to REVIEWED"
    )


def test_no_reviewed_operator_is_refused():
    assert not {name.rstrip("_") for name in REVIEWED} & set(portable._REFUSED)
