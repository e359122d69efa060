"""A model in a GGUF file, written as transformers writes models, so that it loads like any other.

transformers reads such a file, but saves nothing that it read there, because it counts as quantised; so its values go
into a fresh model of the same configuration. Needs `gguf`, which an installation does not bring.
"""

import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autopeft.backbone.load import quietly
from autopeft.errors import AutopeftError
from autopeft.files import beside


def unpacked(file: Path, folder: Path) -> Path:
    """The folder with model and tokenizer of the file, in fp32; made once, and there whole or not at all.

    Raises AutopeftError.
    """
    if folder.is_dir():
        return folder
    temporary = beside(folder)
    try:
        # Its progress is drawn by other means than transformers' own.
        with quietly(), redirect_stderr(io.StringIO()):
            read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
            plain = {name: each for name, each in read.config.to_dict().items() if name != "quantization_config"}
            whole = AutoModelForCausalLM.from_config(type(read.config).from_dict(plain))  # type: ignore[no-untyped-call]
            whole.load_state_dict(read.state_dict())
            whole.save_pretrained(temporary)
            AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(temporary)
        temporary.replace(folder)
    except Exception as error:  # Of a full disk each library tells in its own way.
        raise AutopeftError(f"'{file.name}' cannot be unpacked into '{folder}': {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
