"""Rules for our source code. Each is a function of a parsed file that yields the breaches."""

import ast
import re
from collections.abc import Callable, Iterator

from code_names import calls, imported_by_call, imports, named

# These modules may unpickle: only what another process of the same run has sent through a pipe.
PICKLES_OF_OUR_OWN_PROCESSES = {"pipeline/seal/input_witness.py", "model/runtime/worker_pool.py"}

_PICKLING = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "pickletools",
}
_ERRORS = {"UnpicklingError", "PickleError"}  # importing an error loads nothing
_LOADING = {
    "torch.load",
    "torch.serialization.load",
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "pandas.read_pickle",
    "pd.read_pickle",
    "joblib.load",
}
_LOADING_WITH_A_WORD = {"numpy.load", "np.load"}
_SHELLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "pty.spawn",
}
_UNSAFE_YAML = {
    "load",
    "load_all",
    "full_load",
    "full_load_all",
    "unsafe_load",
    "unsafe_load_all",
    "Loader",
    "CLoader",
    "FullLoader",
    "UnsafeLoader",
    "CFullLoader",
    "CUnsafeLoader",
}
_UNPACKING = {"extractall", "unpack_archive"}
_HUB = {"hf_hub_download", "snapshot_download", "load_dataset", "load_dataset_builder"}
_CODE = {"eval", "exec", "compile", "__import__"}
_OURS = ("common.", "model.", "stages.", "pipeline.", "tools.")

Finding = Iterator[ast.AST]
Rule = Callable[[ast.Module, str], Finding]


def is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def last(name: str) -> str:
    return name.rpartition(".")[2]


def no_pickle(tree: ast.Module, path: str) -> Finding:
    """Import no module that unpickles, except where our own processes talk to each other."""
    for node, name in imports(tree):
        if (
            {*name.split(".")} & _PICKLING
            and last(name) not in _ERRORS
            and path not in PICKLES_OF_OUR_OWN_PROCESSES
        ):
            yield node


def no_unpickling_reader(tree: ast.Module, path: str) -> Finding:
    """Do not call or name torch.load and its like; call np.load only with allow_pickle=False."""
    called = {node.func for node, name, _ in calls(tree) if name in _LOADING_WITH_A_WORD}
    for node, name in named(tree):
        if name in _LOADING or (name in _LOADING_WITH_A_WORD and node not in called):
            yield node
    for node, name, keywords in calls(tree):
        if name in _LOADING_WITH_A_WORD and not is_constant(keywords.get("allow_pickle"), False):
            yield node
        if "allow_pickle" in keywords and not is_constant(keywords["allow_pickle"], False):
            yield node
        if "weights_only" in keywords and not is_constant(keywords["weights_only"], True):
            yield node


def no_remote_code(tree: ast.Module, path: str) -> Finding:
    """Set trust_remote_code only to False, and set it in every call of an Auto class."""
    for node, name, keywords in calls(tree):
        if "trust_remote_code" in keywords and not is_constant(
            keywords["trust_remote_code"], False
        ):
            yield node
        *_, owner, method = ["", *name.split(".")]
        if (
            owner.startswith("Auto")
            and method == "from_pretrained"
            and "trust_remote_code" not in keywords
        ):
            yield node


def only_local_safetensors(tree: ast.Module, path: str) -> Finding:
    """Let from_pretrained read only local files, and weights only from safetensors."""
    for node, name, keywords in calls(tree):
        if last(name) == "from_pretrained":
            weights = not any(kind in name for kind in ("Tokenizer", "Config"))
            unpacked = any(each.arg is None for each in node.keywords)
            local = is_constant(keywords.get("local_files_only"), True)
            safe = not weights or is_constant(keywords.get("use_safetensors"), True)
            if unpacked or not (local and safe):
                yield node


def only_safe_yaml(tree: ast.Module, path: str) -> Finding:
    """Use only yaml.safe_load, and functions such as yaml.parse that build no objects."""
    for node, name in named(tree):
        first = name.split(".")[0]
        if first == "yaml" and last(name) in _UNSAFE_YAML:
            yield node
        if first == "ruamel":
            yield node


def no_eval(tree: ast.Module, path: str) -> Finding:
    """Run no text as code; import a module by a computed name only if it is ours."""
    for node, name, _ in calls(tree):
        if name.removeprefix("builtins.") in _CODE:
            yield node
    # A warm interpreter imports only modules that import statements of the project's code name.
    for node in imported_by_call(tree) if path != "pipeline/seal/warm.py" else ():
        text = node.args[0] if node.args else None
        begin = text.values[0] if isinstance(text, ast.JoinedStr) and text.values else text
        literal = isinstance(begin, ast.Constant) and str(begin.value)
        if not literal or (begin is not text and not literal.startswith(_OURS)):
            yield node


def no_shell(tree: ast.Module, path: str) -> Finding:
    """Pass no text to a shell."""
    for node, name in named(tree):
        if name in _SHELLS:
            yield node
    for node, _, keywords in calls(tree):
        if "shell" in keywords and not is_constant(keywords["shell"], False):
            yield node


def no_plain_http(tree: ast.Module, path: str) -> Finding:
    """Use TLS for every address except this machine's own, and verify certificates."""
    for node in ast.walk(tree):
        plain = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if plain and re.search(r"(http|ftp)://(?!127\.0\.0\.1[:/])", node.value):
            yield node
    for node, name in named(tree):
        if name in ("ssl._create_unverified_context", "ssl.CERT_NONE"):
            yield node
    for node, _, keywords in calls(tree):
        if is_constant(keywords.get("verify"), False):
            yield node


def texts(tree: ast.AST) -> list[str]:
    """Return the text literals in an expression, including those in lists, dicts and f-strings."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def pinned_downloads(tree: ast.Module, path: str) -> Finding:
    """Give a revision with every download from the hub.

    A format such as "parquet" in place of a dataset's name means local files, and needs none.
    """
    for node, name, keywords in calls(tree):
        files = keywords.get("data_files")
        if last(name) in _HUB and files and any("://" in text for text in texts(files)):
            yield node
        elif (
            files
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and node.args[0].value == "parquet"
        ):
            continue
        elif is_constant(keywords.get("local_files_only"), True):
            continue  # reads the local cache only
        elif last(name) in _HUB and (
            "revision" not in keywords or is_constant(keywords["revision"], None)
        ):
            yield node


def no_unpacking(tree: ast.Module, path: str) -> Finding:
    """Let no archive decide where its files are written."""
    for node, name, _ in calls(tree):
        if last(name) in _UNPACKING:
            yield node


def escaping_templates(tree: ast.Module, path: str) -> Finding:
    """Let templates escape all values, and mark no value as safe in code."""
    for node, name, keywords in calls(tree):
        if last(name) in ("Environment", "Template") and not is_constant(
            keywords.get("autoescape"), True
        ):
            yield node
        if last(name) == "Markup":
            yield node


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        no_pickle,
        no_unpickling_reader,
        no_remote_code,
        only_local_safetensors,
        only_safe_yaml,
        no_eval,
        no_shell,
        no_plain_http,
        pinned_downloads,
        no_unpacking,
        escaping_templates,
    )
}
