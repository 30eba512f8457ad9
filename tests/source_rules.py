"""Rules that the text of our code keeps, each a function of a parsed file that yields the lines that break it."""

import ast
import re
from collections.abc import Callable, Iterator

# Who may: both unpickle only what another process of the same run has just sent through a pipe.
PICKLES_OF_OUR_OWN_PROCESSES = {"graph/witness.py", "model/workers.py"}
# Whose loader is a subclass of PyYAML's safe one, as another test asserts.
SAFE_LOADERS = {"graph/instances.py"}

_PICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "pickletools"}
_ERRORS = {"UnpicklingError", "PickleError"}  # names of errors, which load nothing
_LOADING = {
    "torch.load", "torch.hub.load", "torch.package.PackageImporter", "pandas.read_pickle", "pd.read_pickle", "joblib.load",
}  # fmt: skip
_SHELLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "pty.spawn",
}  # fmt: skip
_UNSAFE_YAML = {
    "load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all", "Loader", "CLoader", "FullLoader",
    "UnsafeLoader", "CFullLoader", "CUnsafeLoader",
}  # fmt: skip
_UNPACKING = {"extractall", "unpack_archive"}
_HUB = {"hf_hub_download", "snapshot_download", "load_dataset", "load_dataset_builder"}

Finding = Iterator[ast.AST]
Rule = Callable[[ast.AST, str], Finding]


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` of a name or an attribute, the empty text of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return ""


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str, dict[str, ast.expr]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {each.arg: each.value for each in node.keywords if each.arg}
            # **{"a": …} says its keywords as well; **name may say anything.
            for each in node.keywords:
                if each.arg is None and isinstance(each.value, ast.Dict):
                    keywords |= {key.value: value for key, value in zip(each.value.keys, each.value.values, strict=True) if key}
            yield node, dotted(node.func), keywords


def is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def no_pickle(tree: ast.AST, path: str) -> Finding:
    """No module that unpickles is imported, but where processes of ours talk to each other."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
            names = names if {alias.name for alias in node.names} - _ERRORS else set()
        else:
            continue
        if names & _PICKLING and path not in PICKLES_OF_OUR_OWN_PROCESSES:
            yield node


def no_unpickling_reader(tree: ast.AST, path: str) -> Finding:
    """torch.load and its like are not called or named; np.load says allow_pickle=False itself."""
    for node in ast.walk(tree):
        if dotted(node) in _LOADING or (isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in imported(node)):
            yield node
    for node, name, keywords in calls(tree):
        if name in ("np.load", "numpy.load") and not is_constant(keywords.get("allow_pickle"), False):
            yield node
        if "allow_pickle" in keywords and not is_constant(keywords["allow_pickle"], False):
            yield node
        if "weights_only" in keywords and not is_constant(keywords["weights_only"], True):
            yield node


def imported(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def no_remote_code(tree: ast.AST, path: str) -> Finding:
    """trust_remote_code is never anything but False, and what chooses a class by its config says so."""
    for node, name, keywords in calls(tree):
        if "trust_remote_code" in keywords and not is_constant(keywords["trust_remote_code"], False):
            yield node
        if name.startswith("Auto") and name.endswith(".from_pretrained") and "trust_remote_code" not in keywords:
            yield node


def only_local_safetensors(tree: ast.AST, path: str) -> Finding:
    """from_pretrained reads what is on disk, and weights of safetensors only."""
    for node, name, keywords in calls(tree):
        if name.endswith(".from_pretrained"):
            weights = "Tokenizer" not in name
            unpacked = any(each.arg is None for each in node.keywords)
            local = is_constant(keywords.get("local_files_only"), True)
            safe = not weights or is_constant(keywords.get("use_safetensors"), True)
            if unpacked or not (local and safe):
                yield node


def only_safe_yaml(tree: ast.AST, path: str) -> Finding:
    """yaml.safe_load, or the one loader of ours that is a safe one."""
    for node in ast.walk(tree):
        module, _, name = dotted(node).rpartition(".")
        if module == "yaml" and name in _UNSAFE_YAML and not (name == "load" and path in SAFE_LOADERS):
            yield node
        if isinstance(node, ast.ImportFrom) and node.module == "yaml" and imported(node) & _UNSAFE_YAML:
            yield node
        if isinstance(node, ast.ImportFrom | ast.Import) and any("ruamel" in alias.name for alias in node.names):
            yield node


def no_eval(tree: ast.AST, path: str) -> Finding:
    """No text is run as code."""
    for node, name, _ in calls(tree):
        builtin = isinstance(node.func, ast.Name) or name.startswith("builtins.")
        if builtin and name.removeprefix("builtins.") in ("eval", "exec", "compile", "__import__"):
            yield node


def no_shell(tree: ast.AST, path: str) -> Finding:
    """No text is given to a shell."""
    for node in ast.walk(tree):
        if dotted(node) in _SHELLS:
            yield node
    for node, _, keywords in calls(tree):
        if "shell" in keywords and not is_constant(keywords["shell"], False):
            yield node


def no_plain_http(tree: ast.AST, path: str) -> Finding:
    """No address without TLS but this machine's own, and none whose certificate is not asked for."""
    for node in ast.walk(tree):
        plain = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if plain and re.search(r"(http|ftp)://(?!127\.0\.0\.1[:/])", node.value):
            yield node
        if dotted(node) in ("ssl._create_unverified_context", "ssl.CERT_NONE"):
            yield node
    for node, _, keywords in calls(tree):
        if is_constant(keywords.get("verify"), False):
            yield node


def pinned_downloads(tree: ast.AST, path: str) -> Finding:
    """What asks the hub for something says at which revision; a format in the place of a name is of local files."""
    for node, name, keywords in calls(tree):
        if node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == "parquet" and "data_files" in keywords:
            continue
        if name.split(".")[-1] in _HUB and ("revision" not in keywords or is_constant(keywords["revision"], None)):
            yield node


def no_unpacking(tree: ast.AST, path: str) -> Finding:
    """No archive decides where files go."""
    for node, name, _ in calls(tree):
        if name.split(".")[-1] in _UNPACKING:
            yield node


def escaping_templates(tree: ast.AST, path: str) -> Finding:
    """Templates escape what they are given, and nothing is declared safe in code."""
    for node, name, keywords in calls(tree):
        last = name.split(".")[-1]
        if last in ("Environment", "Template") and not is_constant(keywords.get("autoescape"), True):
            yield node
        if last == "Markup":
            yield node


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        no_pickle, no_unpickling_reader, no_remote_code, only_local_safetensors, only_safe_yaml, no_eval, no_shell, no_plain_http,
        pinned_downloads, no_unpacking, escaping_templates,
    )
}  # fmt: skip
