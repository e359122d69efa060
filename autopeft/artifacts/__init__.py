"""A trained method as a folder: save, load, export, merge.

The folder holds the method's tensors (in peft's own format where the method is peft's, so that
`peft.PeftModel.from_pretrained` reads it), the task head, and `autopeft.json`, which says on which backbone and for
which task it was trained. A merged folder holds a plain transformers model instead of the method; where a class of
transformers computes what model and head do, it is that class, else no class with a head loads it. Exported folders
have a model card and the names of classes in `config.json`; an ONNX file is for those who have neither of us.

A folder may come from a stranger: loading it runs no code of his, and ends in a trained model or in an AutopeftError.
"""

from autopeft.artifacts.description import Description, read_description
from autopeft.artifacts.exporting import export
from autopeft.artifacts.loading import load
from autopeft.artifacts.saving import save_artifact
from autopeft.artifacts.trained import TrainedModel

__all__ = ["Description", "TrainedModel", "export", "load", "read_description", "save_artifact"]
